
if number == 3 then
  local count, period, burst, full_q, full_r, one_q, one_r, cost_q, cost_r, room_q, room_r = read('<ddddddddddd', args, pos)
  local kept_q, kept_r, at -- no at: a new key
  local asked, now = now, now
  local full, second_count, second_burst, second -- second: there is another limit

  local function load(value, from, size)
    if size ~= 40 and size ~= 64 then
      return false
    end
    local q, r, under, instant, other = read('<ddddd', value, from)
    if not (sound(q, TIME_MAX) and sound(under - 1, TIME_MAX) and sound(r, under - 1) and sound(instant, TIME_MAX)
      and sound(other - 1, EXACT)) then
      return false
    end
    local gone, under2, other2
    if size == 64 then
      gone, under2, other2 = read('<ddd', value, from + 40)
      if not (sound(gone, EXACT) and sound(under2 - 1, TIME_MAX) and sound(math.abs(other2) - 1, EXACT)) then
        return false
      end
    end
    kept_q, kept_r = convert(q, r, under, count)
    if gone or under ~= count or other ~= burst then
      local narrow, settle = second_of(period)
      local own_burst, own_count = narrow(burst, true), narrow(count)
      local first_burst, first_count = narrow(other, true), narrow(under)
      second = gone and settle
      if own_burst ~= first_burst or own_count ~= first_count then
        local used_q, used_r = convert(q, r, under, first_count)
        local cut = gone and other2 < 0
        if gone and own_burst == math.abs(other2) and own_count == under2 then
          kept_q, kept_r = gone > instant and gone - instant or 0, 0
        elseif less(full_q, full_r, kept_q, kept_r) then
          cut = true
        end
        second, gone, under2, other2 = settle, instant + span(used_q, used_r), first_count, cut and -first_burst or first_burst
      end
      full, second_count, second_burst = gone, under2, other2
    end
    if less(full_q, full_r, kept_q, kept_r) then
      kept_q, kept_r = full_q, full_r
    end
    at = instant
    return true
  end

  -- a second limit is charged the units, too, for that turn, or is given them back
  local function save(q, r, instant, charged, turn)
    local was = at
    kept_q, kept_r, at = q, r, instant
    if less(full_q, full_r, kept_q, kept_r) then
      kept_q, kept_r = full_q, full_r
    end
    if not second then
      return write('<ddddd', q, r, count, instant, burst)
    end
    full, second_burst = second(full, second_burst, second_count, was, instant, turn, charged, UNIT)
    return write('<dddddddd', q, r, count, instant, burst, full, second_count, second_burst)
  end

  local function used_at(instant)
    if not at then
      return 0, 0
    end
    local q = kept_q - (instant - at)
    if q < 0 then
      return 0, 0
    end
    return q, kept_r
  end

  local function report(d, q, r)
    d.remaining = (q == 0 and r == 0) and 1 or 0
    local twice_q, twice_r = plus(full_q, full_r, full_q, full_r, count)
    if less(twice_q, twice_r, q, r) then
      q, r = twice_q, twice_r
    end
    d.reset = span(q, r)
    d.next = d.reset
    d.expires = now + d.reset
    if second and full > d.expires then
      d.expires = full
    end
  end

  local function settle()
    if not at and units <= 0 then
      return nil
    end
    local instant = at and at > now and at or now
    local q, r = used_at(instant)
    if units < 0 then
      q, r = minus(q, r, cost_q, cost_r, count)
      if q < 0 then
        q, r = 0, 0
      end
    else
      q, r = plus(q, r, cost_q, cost_r, count)
      if less(full_q, full_r, q, r) then
        q, r = full_q, full_r
      end
    end
    return save(q, r, instant, units, units < 0 and charged_at or instant)
  end

  local function ask(d, kind, q, r)
    local healed = less(full_q + SKEW, full_r, q, r)
    if healed then
      q, r = kept_q, kept_r
    end
    local need_q, need_r = plus(q, r, cost_q, cost_r, count)
    local passes = not less(room_q, room_r, need_q, need_r)
    if not passes then
      d.verdict = DENY
      d.retry = span(minus(need_q, need_r, room_q, room_r, count))
    elseif less(one_q, one_r, need_q, need_r) then
      d.verdict = WAIT
      d.wait = span(minus(need_q, need_r, one_q, one_r, count))
    end
    if kind ~= TAKE or not (passes or healed) then
      at = healed and now or at -- as a look sees it
      return q, r
    end
    if passes then
      q, r = need_q, need_r
    end
    return q, r, save(q, r, now, passes and units or 0, now + d.wait)
  end

  return function(kind, value, from, size)
    local d = decision()
    kept_q, kept_r, at, second = 0, 0, nil, nil
    d.damaged = value ~= nil and not load(value, from, size)
    local late = lateness(at, asked)
    now = asked + late
    local q, r = used_at(now)
    local changed
    if kind == SETTLE then
      changed = settle()
      q, r = used_at(now)
    elseif units < 0 or less(room_q, room_r, cost_q, cost_r) then
      d.verdict = NEVER -- not even into an empty queue
    elseif units > 0 then
      q, r, changed = ask(d, kind, q, r)
    end
    report(d, q, r)
    if late > 0 or at and at > now then
      tell_late(d, late, at > now and at - now or 0)
    end
    return d, changed
  end
end
