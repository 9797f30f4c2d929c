
if number == 4 then
  local period, burst, start, ahead = read('<dddd', args, pos)
  local number, used, seen, cut
  local second, second_used, second_cut -- another limit's burst, if there is one

  local function number_at(instant)
    return whole(instant - start, period)
  end

  local function begin(n)
    return start + n * period
  end

  -- what is reserved stays so; but a new plan with another count is empty at most, not in debt
  local function load(value, from, size)
    if size ~= 24 and size ~= 40 then
      return false
    end
    local n, u, other = read('<ddd', value, from)
    if not (n * period >= -TIME_MAX and n * period <= TIME_MAX and floor(n) == n and sound(u, EXACT)
      and sound(other - 1, EXACT)) then
      return false
    end
    local other2, u2
    if size == 40 then
      other2, u2 = read('<dd', value, from + 24)
      if not (sound(math.abs(other2) - 1, EXACT) and sound(u2, EXACT)) then
        return false
      end
    end
    local most = (ahead + 1) * burst
    second_cut = other2 and other2 < 0
    other2 = other2 and math.abs(other2)
    if other ~= burst then
      if other2 == burst then
        u, u2 = u2, u
      else
        most, cut, u2 = burst, u > burst and u - burst or 0, u
      end
      second_cut = second_cut or u > most
      other2 = other
    end
    number, used, seen = n, clamp(u, most), true
    second, second_used = other2, u2
    return true
  end

  -- as it is to be judged now; true if a clock that stepped back had left it further ahead than one window
  local function turn()
    local current = number_at(now)
    if not seen then
      number, used = current, 0
    elseif number < current then
      local gone = current - number
      used = gone > whole(used, burst) and 0 or used - gone * burst
      if second then
        second_used = gone > whole(second_used, second) and 0 or second_used - gone * second
        second = second_used > 0 and second or nil -- what will be charged by the time it asks is carried to it
      end
      number = current
    elseif begin(number) - now > period + SKEW then
      number = current
      return true
    end
    return false
  end

  local function heal()
    if begin(number) - now <= SKEW then
      return false
    end
    number = number_at(now)
    return true
  end

  local function queue(d, kind)
    local healed = heal()
    local fits = units <= burst - fmod(used, burst)
    local windows = whole(used, burst) + (fits and 0 or 1)
    local wait = begin(number + windows) - now
    local counted = begin(number + windows - ahead) - now
    local retry = wait - max_wait
    retry = counted > retry and counted or retry
    if retry > 0 then
      d.verdict, d.retry = DENY, retry
      return healed
    end
    d.verdict, d.wait = WAIT, wait
    if kind == TAKE then
      used = (fits and used or windows * burst) + units
    end
    return true
  end

  local function settle(leased, held)
    local least = clamp(held, used)
    local most = used > burst and used or burst
    -- whenever it was charged, it may have been under the second limit alone
    local second_has = second and second_used > 0 and charged_at >= FOREVER
    if units < 0 and (number_at(charged_at) < number or used == 0 and not second_has) then
      return false
    end
    -- of a lease that the other limit may have drawn while this one was full
    used = used + (leased and units < 0 and used >= burst and 0 or units)
    used = used < least and least or clamp(used, most)
    return true
  end

  -- an older reading of the clock has its turn in the window of the state
  local function second_most(turn)
    local ahead = number_at(turn) - number
    return (ahead > 0 and ahead + 1 or 1) * second
  end

  local function report(d)
    local spent = whole(used, burst)
    local part = used - spent * burst
    local last = begin(number + spent + ((part > 0 or spent == 0) and 1 or 0))
    d.remaining = spent == 0 and whole(burst - part, UNIT) or 0
    d.reset = last - now
    if d.remaining == 0 then
      d.next = begin(number + spent + (burst - part < UNIT and 1 or 0)) - now
    end
    d.expires = last
    if second and second_used > 0 then
      local ends = begin(number + whole(second_used - 1, second) + 1)
      d.expires = ends > last and ends or last
    end
    d.turn = begin(number_at(now) + 1) - now
  end

  return function(kind, value, from, size, n, leases)
    local d = decision()
    local changed = false
    units = n or units
    seen, cut, second = false, 0, nil
    d.damaged = value ~= nil and not load(value, from, size)
    d.cut = cut
    local healed = turn()
    d.second = second and true
    local held = not n and leases and leases.held or 0
    if kind == SETTLE then
      changed = settle(n and size == 40, held)
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 and units > burst - used then
      local queued = queue(d, kind)
      changed = (queued or healed) and kind == TAKE
    elseif kind == TAKE and units > 0 then
      d.late = lateness(begin(number), now)
      used = used + units
      changed = true
    end
    if changed and second and d.verdict <= WAIT then
      local most = second_most(units >= 0 and now + d.wait or n and now or charged_at)
      held = clamp(held, second_used)
      second_used, second_cut = second_units(second_used, second_cut, units, charged_at, most)
      second_used = second_used < held and held or second_used
    end
    report(d)
    if changed and second then
      return d, write('<ddddd', number, used, burst, second_cut and -second or second, second_used)
    end
    return d, changed and write('<ddd', number, used, burst) or nil
  end
end
