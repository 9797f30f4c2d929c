
if number == 5 then
  local period, burst, start = read('<ddd', args, pos)
  local number, previous, current, reserved, seen
  local own = burst

  local function number_at(instant)
    return whole(instant - start, period)
  end

  local function begin(n)
    return start + n * period
  end

  local function load(value, from, size)
    if size ~= 40 then
      return false
    end
    local n, p, c, r, other = read('<ddddd', value, from)
    if not (n * period >= -TIME_MAX and n * period <= TIME_MAX and floor(n) == n and sound(other, TIME_MAX)
      and other > 0 and sound(p, other) and sound(c, other) and sound(r, other)) then
      return false
    end
    number, previous, current, reserved, seen = n, p, c, r, true
    return true, other
  end

  -- as it is to be judged now; true if a clock that stepped back had left it ahead
  local function move()
    local target = number_at(now)
    local ahead = seen and begin(number) - now > SKEW
    if ahead then
      current = clamp(previous, burst) + clamp(current, burst) + clamp(reserved, burst)
      previous, reserved, number = 0, 0, target
    elseif not seen or target - number > 2 then
      number, previous, current, reserved, seen = target, 0, 0, 0, false
    end
    while number < target do
      previous, current, reserved, number = current, reserved, 0, number + 1
    end
    return ahead
  end

  -- a plan with a smaller count is empty, not in debt; what it does not hold
  local function cut()
    local p, c, r = previous, current, reserved
    previous, current, reserved = clamp(p, burst), clamp(c, burst), clamp(r, burst)
    return p - previous, c - current, r - reserved
  end

  local function estimate(instant)
    local share = muldiv(previous, begin(number + 1) - instant, 0, period)
    return whole(share, UNIT) * UNIT + current
  end

  -- how far into a window its previous count still counts for more than room; the period if to the end
  local function elapsed(before, room)
    if room < 0 then
      return period
    end
    local n = (whole(room, UNIT) + 1) * UNIT
    if n > before then
      return 0
    end
    return period - muldiv(n, period, -1, before)
  end

  local function turn_for(n, instant)
    local counts = { previous, current, reserved, 0, 0 }
    local i = reserved > 0 and 1 or 0
    local within = elapsed(counts[i + 1], burst - counts[i + 2] - n)
    while within == period do
      i = i + 1
      within = elapsed(counts[i + 1], burst - counts[i + 2] - n)
    end
    local turn = begin(number + i) + within
    return turn > instant and turn or instant
  end

  local function settle(held)
    local counts = { previous, current, reserved }
    local i = number_at(charged_at) - number + 2
    local still = i >= 1 and i <= 3
    i = still and i or 2
    if units < 0 and charged_at >= FOREVER then
      held = clamp(held, current)
      local all = previous + current + reserved - held
      local left = clamp(all + units, all)
      left = left > 0 and left or 0
      -- what counts longest goes first, and promises to those who wait go last
      reserved = clamp(reserved, left)
      previous = clamp(previous, left - reserved)
      current = held + left - reserved - previous
      return all > 0
    end
    if units < 0 and (not still or counts[i] == 0) then
      return false
    end
    local n = counts[i] + units
    counts[i] = n > 0 and clamp(n, burst) or 0
    previous, current, reserved = counts[1], counts[2], counts[3]
    return true
  end

  local function take(d, kind, instant)
    local turn = turn_for(units, instant)
    local ahead = number_at(turn) - number
    if turn > instant and (turn - now > max_wait or ahead > 1) then
      -- it may wait for a turn of the next window, not for a later one
      local reservable = begin(number + ahead - 1)
      local patient = turn - max_wait
      d.verdict, d.retry = DENY, (patient > reservable and patient or reservable) - now
      return false
    end
    if turn > instant then
      d.verdict, d.wait = WAIT, turn - now
    else
      d.late = instant - now
    end
    if kind == TAKE then
      if ahead > 0 then
        reserved = reserved + units
      else
        current = current + units
      end
    end
    return true
  end

  local function report(d, instant)
    local used = estimate(instant)
    if reserved == 0 and used < burst then
      d.remaining = whole(burst - used, UNIT)
    end
    d.next = d.remaining > 0 and 0 or turn_for(UNIT, instant) - now
    local windows = reserved > 0 and 3 or current > 0 and 2 or previous > 0 and 1 or 0
    d.reset = windows > 0 and begin(number + windows) - now or 0
    d.expires = now + d.reset
    d.turn = begin(number_at(now) + 1) - now
  end

  return function(kind, value, from, size, n, leases)
    local d = decision()
    local changed = false
    units = n or units
    seen, burst = false, own
    local loaded, other = true, 0
    if value then
      loaded, other = load(value, from, size)
    end
    d.damaged = not loaded
    if kind == SETTLE and loaded and other > own then
      burst = other -- what a larger plan has used stays so
    end
    local healed = move()
    local beyond, beyond_now, beyond_next = cut()
    local first = begin(number)
    local instant = now > first and now or first
    if kind == SETTLE then
      changed = settle(not n and leases and leases.held or 0)
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local taken = take(d, kind, instant)
      changed = kind == TAKE and (taken or healed)
    end
    local state
    if changed and seen and not healed and other > burst then -- what was cut off counts under the larger plan
      state = write('<ddddd', number, previous + beyond, current + beyond_now, reserved + beyond_next, other)
    elseif changed then
      state = write('<ddddd', number, previous, current, reserved, burst)
    end
    if burst ~= own then
      burst = own
      cut()
    end
    report(d, instant)
    return d, state
  end
end
