
if number == 2 then
  local count, period, burst, initial, start, ahead = read('<dddddd', args, pos)
  local refill = count * UNIT
  local used, step, seen
  local second, second_count, second_burst, cut -- what is used under a second limit, if there is one

  local function load(value, from, size)
    if size ~= 32 and size ~= 56 then
      return false
    end
    local u, s, under, other = read('<dddd', value, from)
    if not (sound(u, EXACT) and s >= -TIME_MAX and s <= TIME_MAX and floor(s) == s and sound(under - 1, EXACT)
      and sound(other - 1, EXACT)) then
      return false
    end
    local u2, under2, other2
    if size == 56 then
      u2, under2, other2 = read('<ddd', value, from + 32)
      if not (sound(u2, EXACT) and sound(under2 - 1, EXACT) and sound(math.abs(other2) - 1, EXACT)) then
        return false
      end
    end
    local most = burst + ahead * refill
    if u2 or under ~= count or other ~= burst then
      local narrow = second_of(period)
      local own_burst, own_count = narrow(burst, true), narrow(count)
      local first_burst, first_count = narrow(other, true), narrow(under)
      if own_burst ~= first_burst or own_count ~= first_count then
        local known = u2 and own_burst == math.abs(other2) and own_count == under2
        cut = u2 and other2 < 0
        most = (known or own_burst == first_burst) and most or burst
        u, u2, under2, other2 = known and u2 or u, u, first_count, first_burst
        cut = cut or u > most
      elseif u2 then
        cut, other2 = other2 < 0, math.abs(other2)
      end
    end
    used, step, seen = clamp(u, most), s, true
    second, second_count, second_burst = u2, under2, other2
    return true
  end

  local function periods(n, back)
    return whole(n - 1, back or refill) + 1
  end

  local function full_from()
    local own = used > 0 and periods(used) or 0
    local other = second and second > 0 and periods(second, second_count * UNIT) or 0
    return step + (own > other and own or other) * period
  end

  local function phase()
    return start ~= 0 and now - fmod(fmod(now - start, period) + period, period) or now
  end

  local function until_back(n)
    return n <= 0 and 0 or step + periods(n) * period - now
  end

  -- as it is to be judged now; true if a clock that stepped back had left it too far ahead
  local function turn()
    if not seen then
      used, step = burst - initial, phase()
    end
    if now < step then
      if step - now <= period + SKEW then
        return false
      end
      step = phase()
      return true
    end
    local gone = whole(now - step, period)
    step = step + gone * period
    used = (used == 0 or gone >= periods(used)) and 0 or used - gone * refill
    if second then
      local back = second_count * UNIT
      second = (second == 0 or gone >= periods(second, back)) and 0 or second - gone * back
    end
    return false
  end

  local function settle()
    local most = used > burst and used or burst
    used = used + units
    used = used < 0 and 0 or clamp(used, most)
  end

  local function second_most(turn)
    local refills = turn < step and units >= 0 and 0 or whole(turn - step, period) -- its turn is at the step of the state
    return second_burst + refills * second_count * UNIT
  end

  local function heal(missing)
    local longest = periods(used > burst and used or burst) * period
    if until_back(missing) <= longest + SKEW then
      return false
    end
    step = phase()
    return true
  end

  local function queue(d, kind)
    local missing = used + units - burst
    local healed = heal(missing)
    local wait = until_back(missing)
    local counted = step + (periods(missing) - ahead) * period - now
    local retry = wait - max_wait
    retry = counted > retry and counted or retry
    if retry > 0 then
      d.verdict, d.retry = DENY, retry
      return healed
    end
    d.verdict, d.wait = WAIT, wait
    used = used + (kind == TAKE and units or 0)
    return true
  end

  local function report(d)
    d.remaining = used < burst and whole(burst - used, UNIT) or 0
    d.next = burst < UNIT and FOREVER or until_back(UNIT - (burst - used))
    d.reset = until_back(used)
    d.expires = initial == burst and full_from() + period or now + d.reset + period + RETENTION
  end

  return function(kind, value, from, size)
    local d = decision()
    local changed = false
    used, step, seen, second, cut = 0, 0, false, nil, false
    d.damaged = value ~= nil and not load(value, from, size)
    if initial == burst and now - period >= full_from() then
      used, step, seen, second, cut = 0, 0, false, nil, false
    end
    local fresh = not seen
    local healed = turn()
    if kind == SETTLE then
      if not fresh or units > 0 then
        settle()
        changed = true
      end
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 and units > burst - used then
      local queued = queue(d, kind)
      changed = (queued or healed or fresh) and kind == TAKE
    elseif kind == TAKE and units > 0 then
      used = used + units
      changed = true
    end
    if changed and second and d.verdict <= WAIT then
      second, cut = second_units(second, cut, units, charged_at, second_most(units >= 0 and now + d.wait or charged_at))
    end
    report(d)
    if changed and second then
      return d, write('<ddddddd', used, step, count, burst, second, second_count, cut and -second_burst or second_burst)
    end
    return d, changed and write('<dddd', used, step, count, burst) or nil
  end
end
