
if number == 2 then
  local count, period, burst, initial, start, ahead = read('<dddddd', args, pos)
  local refill = count * UNIT
  local used, step, seen

  local function load(value, from, size)
    if size ~= 24 then
      return false
    end
    local u, s, other = read('<ddd', value, from)
    if not (sound(u, EXACT) and s >= -TIME_MAX and s <= TIME_MAX and floor(s) == s and sound(other, EXACT)) then
      return false
    end
    used, step, seen = clamp(u, other == burst and burst + ahead * refill or burst), s, true
    return true
  end

  local function periods(n)
    return whole(n - 1, refill) + 1
  end

  local function full_from()
    return used > 0 and step + periods(used) * period or step
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
    return false
  end

  local function settle()
    local most = used > burst and used or burst
    used = used + units
    used = used < 0 and 0 or clamp(used, most)
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
    used, step, seen = 0, 0, false
    d.damaged = value ~= nil and not load(value, from, size)
    if initial == burst and now - period >= full_from() then
      used, step, seen = 0, 0, false
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
    report(d)
    return d, changed and write('<ddd', used, step, burst) or nil
  end
end
