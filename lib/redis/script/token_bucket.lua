
if number == 1 then
  -- one closure with numbers of its own: each more, and each number that two share, would be made anew by each call
  return function(kind, value, from, size, n, leases, drawn)
    local count, period, burst, drain, fills, cap_q, cap_r, one_q, one_r, cost_q, cost_r, room_q, room_r,
      most_q, most_r, first_q, first_r = read('<ddddddddddddddddd', args, pos)
    local d = decision()
    local units = units
    local kept_q, kept_r, at = 0, 0, nil -- no at: a new key
    local q, r = first_q, first_r
    local full, second_count, second_burst, second = 0, 0, 0, nil -- second: there is another limit

    if value then
      local under, instant, other = 0, 0, 0
      if size == 40 then
        q, r, under, instant, other = read('<ddddd', value, from)
      elseif size == 64 then
        q, r, under, instant, other, full, second_count, second_burst = read('<dddddddd', value, from)
      end
      if under > 0 and sound(q, TIME_MAX) and sound(under, TIME_MAX) and sound(r, under - 1) and sound(instant, TIME_MAX)
        and sound(other, TIME_MAX) and (size == 40 or sound(full, EXACT) and sound(second_count - 1, TIME_MAX)
        and sound(math.abs(second_burst) - 1, EXACT)) then
        at = instant
        kept_q, kept_r = convert(q, r, under, count)
        if size == 64 or under ~= count or other ~= burst then
          local narrow, settle = second_of(period)
          local first_burst, first_count = narrow(other, true), narrow(under)
          local own_burst, own_count = narrow(burst, true), narrow(count)
          second = size == 64 and settle or nil
          if own_burst ~= first_burst or own_count ~= first_count then
            local used_q, used_r = convert(q, r, under, first_count)
            local before = instant + span(used_q, used_r)
            local cut = second and second_burst < 0
            if second and own_burst == math.abs(second_burst) and own_count == second_count then
              kept_q, kept_r = full > at and full - at or 0, 0
            elseif own_burst ~= first_burst and less(cap_q, cap_r, kept_q, kept_r) then
              local beyond_q, beyond_r = minus(kept_q, kept_r, cap_q, cap_r, count)
              local units_beyond, rest = muldiv(beyond_q, count, beyond_r, period / UNIT)
              d.cut = rest > 0 and units_beyond + 1 or units_beyond
              kept_q, kept_r, cut = cap_q, cap_r, true
            end
            second, full, second_count, second_burst = settle, before, first_count, cut and -first_burst or first_burst
          end
          d.second = second and true
        end
        if less(most_q, most_r, kept_q, kept_r) then
          kept_q, kept_r = most_q, most_r
        end
      else
        d.damaged = true
        q, r, full = first_q, first_r, 0
      end
    end
    if n then
      units = n
      cost_q, cost_r = muldiv(n < 0 and -n or n, period / UNIT, 0, count)
    end
    if leases then
      -- it drains to an instant, but not below so many units, which may have been drawn under a larger plan
      local function drain_to(instant, held)
        local floor_q, floor_r = muldiv(clamp(held, burst), period / UNIT, 0, count)
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
        if second then
          local later = second(full, second_burst, second_count, nil, instant, instant, 0, 0)
          local least = second(0, second_burst, second_count, nil, instant, instant, held, 0)
          full = later < least and least or later
        end
      end

      -- leased units drain from the end of their lease
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
    local late = lateness(at, now)
    local now = now + late
    if at then
      q, r = used_after(kept_q, kept_r, now - at, cap_q, cap_r, count)
    elseif less(cap_q, cap_r, q, r) then
      q, r = cap_q, cap_r
    end

    -- the state; a second limit is charged the units, too, for that turn, or is given them back
    local function save(instant, charged, turn)
      local was = at
      at = instant
      if not second then
        return write('<ddddd', q, r, count, instant, burst)
      end
      full, second_burst = second(full, second_burst, second_count, was, instant, turn, charged, 0)
      return write('<dddddddd', q, r, count, instant, burst, full, second_count, second_burst)
    end

    local state
    local lasts = 0 -- until when turns are reserved beyond what is told
    if kind == SETTLE then
      if at or units >= 0 then
        local instant = at and at > now and at or now
        if at then
          q, r = used_after(kept_q, kept_r, instant - at, cap_q, cap_r, count)
        end
        if units < 0 and n and size == 64 and at + span(kept_q, kept_r) - span(cap_q, cap_r) >= drawn then
          -- of a lease that the other limit may have drawn while this one was full
        elseif units < 0 then
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
        state = save(instant, units, units >= 0 and instant or n and drawn or charged_at)
        q, r = used_after(q, r, now - instant, cap_q, cap_r, count)
      end
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local need_q, need_r = plus(q, r, cost_q, cost_r, count)
      if not less(cap_q, cap_r, need_q, need_r) then
        if kind == TAKE then
          q, r = need_q, need_r
          state = save(now, units, now)
        end
      else
        -- a turn, or a refusal
        local full_q, full_r = cap_q, cap_r
        if less(cap_q, cap_r, kept_q, kept_r) then
          full_q, full_r = kept_q, kept_r
        end
        q, r = first_q, first_r
        if at then
          q, r = kept_q - (now - at), kept_r
          if q < 0 then
            q, r = 0, 0
          end
        end
        need_q, need_r = plus(q, r, cost_q, cost_r, count)
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
        state = changed and save(now, d.verdict == WAIT and units or 0, now + d.wait) or nil
        at = healed and now or at -- as a look sees it
        local end_q, end_r = plus(full_q, full_r, cap_q, cap_r, count)
        if less(end_q, end_r, q, r) then
          lasts = state and now + span(q, r) or 0
          q, r = end_q, end_r
        end
      end
    end

    local left_q, left_r = minus(cap_q, cap_r, q, r, count)
    if left_q >= 0 then
      d.remaining = muldiv(left_q, count, left_r, period)
    end
    if d.remaining == 0 then
      local need_q, need_r = plus(q, r, one_q, one_r, count)
      d.next = burst < UNIT and FOREVER or span(minus(need_q, need_r, cap_q, cap_r, count))
    end
    d.reset = span(q, r)
    local empty = now + d.reset
    empty = lasts > empty and lasts or empty
    d.expires = (full > empty and full or empty) + (fills == 1 and 0 or RETENTION)
    if late > 0 or at and at > now then
      tell_late(d, late, at > now and at - now or 0)
    end
    return d, state
  end
end
