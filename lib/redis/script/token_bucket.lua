
if number == 1 then
  local count, period, burst, drain, fills, cap_q, cap_r, one_q, one_r, cost_q, cost_r, room_q, room_r,
    most_q, most_r, first_q, first_r = read('<ddddddddddddddddd', args, pos)
  local kept_q, kept_r, at -- no at: a new key

  local function load(value, from, size)
    if size ~= 40 then
      return false
    end
    local q, r, under, instant, other = read('<ddddd', value, from)
    if not (sound(q, TIME_MAX) and sound(under, TIME_MAX) and sound(r, under - 1) and sound(instant, TIME_MAX)
      and sound(other, TIME_MAX)) then
      return false
    end
    kept_q, kept_r = convert(q, r, under, count)
    if other ~= burst then
      if less(cap_q, cap_r, kept_q, kept_r) then
        kept_q, kept_r = cap_q, cap_r
      end
    elseif less(most_q, most_r, kept_q, kept_r) then
      kept_q, kept_r = most_q, most_r
    end
    at = instant
    return true
  end

  -- it drains to that instant, but not below so many units
  local function drain_to(instant, units_held)
    local floor_q, floor_r = muldiv(units_held, period / UNIT, 0, count)
    if not at then
      kept_q, kept_r, at = first_q, first_r, instant
    elseif instant > at then
      kept_q, at = kept_q - (instant - at), instant
      if kept_q < 0 then
        kept_q, kept_r = 0, 0
      end
    end
    if less(kept_q, kept_r, floor_q, floor_r) then
      kept_q, kept_r = floor_q, floor_r
    end
  end

  -- leased units drain from the end of their lease
  local function hold(leases)
    local held = leases.units
    for _, lease in ipairs(leases) do
      if lease.ends > now then
        break
      end
      drain_to(lease.ends, held)
      held = held - lease.units
    end
    if held > 0 then
      drain_to(now, held)
    end
  end

  local function save(q, r, instant)
    kept_q, kept_r, at = q, r, instant
    return write('<ddddd', q, r, count, instant, burst)
  end

  local function used_exactly(instant)
    if not at then
      return first_q, first_r
    end
    local q = kept_q - (instant - at)
    if q < 0 then
      return 0, 0
    end
    return q, kept_r
  end

  local function used_at(instant)
    local q, r = used_exactly(instant)
    local full_q, full_r = plus(kept_q, kept_r, cap_q, cap_r, count)
    if less(full_q, full_r, q, r) then
      return full_q, full_r
    end
    return q, r
  end

  local function report(d, q, r)
    local left_q, left_r = minus(cap_q, cap_r, q, r, count)
    if left_q >= 0 then
      d.remaining = muldiv(left_q, count, left_r, period)
    end
    if d.remaining == 0 then
      local need_q, need_r = plus(q, r, one_q, one_r, count)
      d.next = burst < UNIT and FOREVER or span(minus(need_q, need_r, cap_q, cap_r, count))
    end
    d.reset = span(q, r)
    d.expires = now + d.reset + (fills == 1 and 0 or RETENTION)
  end

  local function settle()
    if not at and units < 0 then
      return nil
    end
    local instant = at and at > now and at or now
    local q, r = used_at(instant)
    if units < 0 then
      q, r = minus(q, r, cost_q, cost_r, count)
      if q < 0 then
        q, r = 0, 0
      end
    elseif less(q, r, cap_q, cap_r) then
      q, r = plus(q, r, cost_q, cost_r, count)
      if less(cap_q, cap_r, q, r) then
        q, r = cap_q, cap_r
      end
    end
    return save(q, r, instant)
  end

  -- a turn, or a refusal
  local function queue(d, kind)
    local full_q, full_r = cap_q, cap_r
    if less(cap_q, cap_r, kept_q, kept_r) then
      full_q, full_r = kept_q, kept_r
    end
    local q, r = used_exactly(now)
    local need_q, need_r = plus(q, r, cost_q, cost_r, count)
    local healed = less(full_q + drain + SKEW, full_r, need_q, need_r)
    local changed = kind == TAKE and (healed or not at)
    if healed then
      q, r = full_q, full_r
      need_q, need_r = plus(q, r, cost_q, cost_r, count)
    end
    if less(room_q, room_r, need_q, need_r) then
      d.verdict = DENY
      d.retry = span(minus(need_q, need_r, room_q, room_r, count))
    else
      d.verdict = WAIT
      d.wait = span(minus(need_q, need_r, cap_q, cap_r, count))
      changed = kind == TAKE
      if changed then
        q, r = need_q, need_r
      end
    end
    local state = changed and save(q, r, now) or nil
    local end_q, end_r = plus(full_q, full_r, cap_q, cap_r, count)
    if less(end_q, end_r, q, r) then
      q, r = end_q, end_r
    end
    return q, r, state
  end

  return function(kind, value, from, size, n, leases)
    local d = decision()
    if n then
      units = n
      cost_q, cost_r = muldiv(n < 0 and -n or n, period / UNIT, 0, count)
    end
    kept_q, kept_r, at = 0, 0, nil
    d.damaged = value ~= nil and not load(value, from, size)
    if leases then
      hold(leases)
    end
    local q, r = used_at(now)
    local changed
    if kind == SETTLE then
      changed = settle()
      q, r = used_at(now)
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local need_q, need_r = plus(q, r, cost_q, cost_r, count)
      if less(cap_q, cap_r, need_q, need_r) then
        q, r, changed = queue(d, kind)
      elseif kind == TAKE then
        q, r = need_q, need_r
        changed = save(q, r, now)
      end
    end
    report(d, q, r)
    return d, changed
  end
end
