
-- An entry has the low 40 bits of its time in ticks and, modulo 2^24, the sum of all units up to and with its
-- own: so what has gone and when units fit are found by halving. More than 8192 units are never in use.
algorithms[6] = function(units, max_wait, charged_at, args, pos)
  local count, period, burst, tick = read('<dddd', args, pos)
  local HEAD, ENTRY, TIMES, SUMS = 32, 8, 1099511627776, 16777216
  local AHEAD_MAX = 86400 * SECOND
  local n, base, capacity, last, at, entries -- base: the sum before the first entry
  local instant -- at which it is judged

  local function ticks(t)
    return t > 0 and -whole(-t, tick) or 0
  end

  local function entry(i)
    local time, sum = read('<I5I3', entries, ENTRY * i + 1)
    local newest = ticks(last)
    return newest - (newest - time) % TIMES, (sum - base) % SUMS
  end

  local function put(time, sum)
    return write('<I5I3', time % TIMES, (base + sum) % SUMS)
  end

  local function used()
    if n == 0 then
      return 0
    end
    local _, sum = entry(n - 1)
    return sum
  end

  local function gone(time)
    return time * tick + period
  end

  local function load(state)
    if #state < HEAD then
      return false
    end
    base, capacity, last, at = read('<dddd', state)
    entries = sub(state, HEAD + 1)
    n = #entries / ENTRY
    if not (sound(base, SUMS - 1) and sound(capacity, 8192) and floor(n) == n and n <= capacity
      and sound(at, TIME_MAX) and sound(last, at + AHEAD_MAX)) then
      return false
    end
    return n == 0 or (used() <= 8192 * UNIT and entry(n - 1) == ticks(last))
  end

  local function keep_last(sum)
    n, capacity, base = 1, count, 0
    entries = put(ticks(last), sum)
  end

  -- the first of the entries from i on for which it holds; n if for none
  local function first(holds)
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
    if n > 0 and gone(ticks(last)) <= t then
      n, base, entries = 0, 0, ''
    end
    local i = first(function(time) return gone(time) > t end)
    if i > 0 then
      local _, sum = entry(i - 1)
      base = (base + sum) % SUMS
      entries = sub(entries, ENTRY * i + 1)
      n = n - i
    end
  end

  -- true if a clock that stepped back had left it ahead
  local function open()
    local ahead = at - now > SKEW
    instant = at > now and at or now
    if ahead then
      local turns = last - at
      local sum = used()
      instant = now
      last = now + (turns > 0 and turns or 0)
      if n > 0 then
        keep_last(clamp(sum, burst))
      end
    elseif n > 0 and (capacity > count or used() > burst) then
      keep_last(clamp(used(), burst))
    end
    if n == 0 then
      capacity, base = count, 0
    end
    drop(instant)
    return ahead
  end

  local function push(more, t)
    local sum = used()
    local newest = sum
    if n > 1 then
      local _, before = entry(n - 2)
      newest = sum - before
    end
    capacity = count
    if n == capacity or (n > 0 and newest == 0) then
      entries = sub(entries, 1, -ENTRY - 1)
    else
      n = n + 1
    end
    entries = entries .. put(ticks(t), sum + more)
    last = t
  end

  local function order()
    return n > 0 and last > instant and last or instant
  end

  local function turn_for(more)
    local excess = used() + more - burst
    local turn = order()
    if excess <= 0 or n == 0 then
      return turn
    end
    local time = entry(clamp(first(function(_, sum) return sum >= excess end), n - 1))
    time = gone(time)
    return time > turn and time or turn
  end

  -- takes units off the entries of that time, from the newest on, as far as they have them
  local function refund(back, time)
    local i = first(function(t) return t >= time end)
    local beyond = first(function(t) return t > time end)
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
    for k = i, n - 1 do
      local t, s = entry(k)
      -- the newest of them lose first: up to what is left, sums stay
      tail[#tail + 1] = put(t, k < beyond and clamp(s, sum - off) or s - off)
    end
    entries = sub(entries, 1, ENTRY * i) .. table.concat(tail)
    return true
  end

  local function settle()
    local room = burst - used()
    local more = clamp(units, room)
    if units < 0 then
      return refund(-units, ticks(charged_at))
    end
    if more == 0 then
      return false
    end
    push(more, order())
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
    end
    if kind == TAKE then
      drop(turn)
      push(units, turn)
    end
    return true
  end

  local function report(d)
    local sum = used()
    if order() == instant and sum < burst then
      d.remaining = whole(burst - sum, UNIT)
    end
    d.next = d.remaining > 0 and 0 or turn_for(UNIT) - now
    d.expires = n > 0 and gone(ticks(last)) or now
    d.reset = d.expires - now
  end

  return function(kind, state)
    local d = decision()
    local changed = false
    n, base, capacity, last, at, entries = 0, 0, count, 0, 0, ''
    if state and not load(state) then
      d.damaged = true
      n, base, capacity, last, at, entries = 0, 0, count, 0, 0, ''
    end
    local healed = open()
    if kind == SETTLE then
      changed = settle()
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local taken = take(d, kind)
      changed = kind == TAKE and (taken or healed)
    end
    report(d)
    return d, changed and write('<dddd', base, capacity, last, instant) .. entries or nil
  end
end
