
-- An entry has the low 40 bits of its time in ticks and, modulo 2^24, the sum of all units up to and with its
-- own: so what has gone and when units fit are found by halving. More than 8192 units are never in use.
if number == 6 then
  local count, period, burst, tick = read('<dddd', args, pos)
  local HEAD, ENTRY, TIMES, SUMS = 32, 8, 1099511627776, 16777216
  local AHEAD_MAX, LOOKED_MAX = 86400 * SECOND, 128
  local n, base, capacity, last, at -- base: the sum before the first entry
  local list, first, newest -- newest: the last entry, where it is not in the list
  local used
  local instant -- at which it is judged

  local function ticks(t)
    return t > 0 and -whole(-t, tick) or 0
  end

  local function entry(i)
    local time, sum
    if newest and i == n - 1 then
      time, sum = read('<I5I3', newest)
    else
      time, sum = read('<I5I3', list, first + ENTRY * i)
    end
    local latest = ticks(last)
    return latest - (latest - time) % TIMES, (sum - base) % SUMS
  end

  local function put(time, sum)
    return write('<I5I3', time % TIMES, (base + sum) % SUMS)
  end

  local function gone(time)
    return time * tick + period
  end

  local function forget()
    n, base, used, newest = 0, 0, 0, nil
  end

  local function load(value, from, size)
    if size < HEAD then
      return false
    end
    base, capacity, last, at = read('<dddd', value, from)
    list, first = value, from + HEAD
    n = (size - HEAD) / ENTRY
    if not (sound(base, SUMS - 1) and sound(capacity, 8192) and floor(n) == n and n <= capacity
      and sound(at, TIME_MAX) and sound(last, at + AHEAD_MAX)) then
      return false
    end
    if n == 0 then
      return true
    end
    local time
    time, used = entry(n - 1)
    return used <= 8192 * UNIT and time == ticks(last)
  end

  -- all becomes one entry at the time of the newest
  local function collapse()
    n, capacity, base, used = 1, count, 0, clamp(used, burst)
    newest = put(ticks(last), used)
  end

  -- the first of the entries for which it holds; n if for none
  local function find(holds)
    local low, high = 0, n
    while low < high do
      local middle = floor((low + high) / 2)
      if holds(entry(middle)) then
        high = middle
      else
        low = middle + 1
      end
    end
    return low
  end

  local function drop(t)
    if n == 0 then
      return
    end
    if gone(ticks(last)) <= t then
      return forget()
    end
    if gone((entry(0))) > t then
      return
    end
    local i = find(function(time) return gone(time) > t end)
    local _, sum = entry(i - 1)
    base = (base + sum) % SUMS
    used = used - sum
    first = first + ENTRY * i
    n = n - i
  end

  local function open()
    local ahead = at - now > SKEW
    instant = at > now and at or now
    if ahead then
      local turns = last - at
      instant = now
      last = now + (turns > 0 and turns or 0)
    end
    if n > 0 and (ahead or capacity > count or used > burst) then
      collapse()
    elseif n == 0 then
      capacity, base = count, 0
    end
    drop(instant)
    return ahead
  end

  -- where it is full, one of the oldest or of the newest goes that has been given back
  local function make_room()
    local function remove(i)
      list = sub(list, first, first + ENTRY * i - 1) .. sub(list, first + ENTRY * (i + 1), first + ENTRY * n - 1)
      first, n = 1, n - 1
    end
    local before, latest = 0, used
    for i = 0, clamp(floor((n + 1) / 2), LOOKED_MAX) - 1 do
      local _, oldest = entry(i)
      if oldest == before then
        return remove(i)
      end
      local _, sum = entry(n - 2 - i)
      if sum == latest then
        return remove(n - 1 - i)
      end
      before, latest = oldest, sum
    end
  end

  local function push(more, t)
    local before = 0
    if n > 1 then
      local _
      _, before = entry(n - 2)
    end
    capacity = count
    if n == capacity and n > 1 and used > before then
      make_room()
    end
    if not (n == capacity or (n > 0 and used == before)) then
      n = n + 1
      if newest then -- all there was
        list, first = newest, 1
      end
    end
    used = used + more
    last = t
    newest = put(ticks(t), used)
  end

  local function order()
    return n > 0 and last > instant and last or instant
  end

  local function turn_for(more)
    local excess = used + more - burst
    local turn = order()
    if excess <= 0 or n == 0 then
      return turn
    end
    local time, sum = entry(0)
    if sum < excess then
      time = entry(clamp(find(function(_, all) return all >= excess end), n - 1))
    end
    time = gone(time)
    return time > turn and time or turn
  end

  -- takes units off the entries of that time, from the newest on, as far as they have them
  local function refund(back, time)
    local i = find(function(t) return t >= time end)
    local beyond = find(function(t) return t > time end)
    local before = 0
    if i == beyond then
      return false
    end
    if i > 0 then
      local _
      _, before = entry(i - 1)
    end
    local _, sum = entry(beyond - 1)
    local had = sum - before
    local off = clamp(back, had)
    if off == 0 then
      return false
    end
    local tail = {}
    if i > 0 then
      tail[1] = sub(list, first, first + ENTRY * i - 1)
    end
    for k = i, n - 1 do
      local t, s = entry(k)
      -- the newest of them lose first: up to what is left, sums stay
      tail[#tail + 1] = put(t, k < beyond and clamp(s, sum - off) or s - off)
    end
    list, first, newest = table.concat(tail), 1, nil
    used = used - off
    return true
  end

  -- the same whenever they were charged; those that have none left become one, at the newest's place in the order of turns
  local function refund_any(back)
    if back >= used then
      local any = n > 0
      forget()
      return any
    end
    used = used - back
    local i = find(function(_, sum) return sum >= used end)
    local left = sub(list, first, first + ENTRY * i - 1) .. put((entry(i)), used)
    if i < n - 1 then
      left = left .. put(ticks(last), used)
      i = i + 1
    end
    list, first, newest, n = left, 1, nil, i + 1
    return true
  end

  local function settle()
    local room = burst - used
    local more = clamp(units, room)
    if units < 0 then
      if charged_at >= FOREVER then
        return refund_any(-units)
      end
      return refund(-units, ticks(charged_at))
    end
    if more == 0 then
      return false
    end
    push(more, order())
    return true
  end

  -- of a larger limit's log, which has become one entry: nothing of it is cut off, or who asks under both would have it
  -- back
  local function settle_larger(all, larger)
    local sum = all + units
    sum = sum < 0 and 0 or clamp(sum, larger * UNIT)
    if sum == all or (units < 0 and charged_at < FOREVER and gone(ticks(charged_at)) <= instant) then
      return false
    end
    last = units > 0 and order() or last
    if sum == 0 then
      forget()
    else
      used, newest = sum, put(ticks(last), sum)
    end
    capacity = larger
    return true
  end

  local function take(d, kind)
    local patience = clamp(max_wait, AHEAD_MAX)
    local turn = turn_for(units)
    if turn > instant and turn - now > patience then
      d.verdict, d.retry = DENY, turn - patience - now
      return false
    end
    if turn > instant then
      d.verdict, d.wait = WAIT, turn - now
    else
      d.late = instant - now
    end
    if kind == TAKE then
      drop(turn)
      push(units, turn)
    end
    return true
  end

  local function report(d)
    if order() == instant and used < burst then
      d.remaining = whole(burst - used, UNIT)
    end
    d.next = d.remaining > 0 and 0 or turn_for(UNIT) - now
    d.expires = n > 0 and gone(ticks(last)) or now
    d.reset = d.expires - now
  end

  local function save()
    local head = write('<dddd', base, capacity, last, instant)
    if not newest then
      return head, sub(list, first, first + ENTRY * n - 1)
    end
    return head, sub(list, first, first + ENTRY * (n - 1) - 1), newest
  end

  return function(kind, value, from, size)
    local d = decision()
    local changed = false
    forget()
    capacity, last, at, list, first = count, 0, 0, '', 1
    if value and not load(value, from, size) then
      d.damaged = true
      forget()
      capacity, last, at = count, 0, 0
    end
    local all, larger = used, capacity
    local healed = open()
    if kind == SETTLE and larger > count and n > 0 then
      changed = settle_larger(all, larger)
    elseif kind == SETTLE then
      changed = settle()
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local taken = take(d, kind)
      changed = kind == TAKE and (taken or healed)
    end
    if not changed then
      report(d)
      return d
    end
    local head, list, newest = save()
    used = clamp(used, burst)
    report(d)
    return d, head, list, newest
  end
end
