
if number == 1 then
  -- one closure with numbers of its own: each more, and each number that two share, would be made anew by each call
  return function(kind, value, from, size, n, leases)
    local count, period, burst, drain, fills, cap_q, cap_r, one_q, one_r, cost_q, cost_r, room_q, room_r,
      most_q, most_r, first_q, first_r = read('<ddddddddddddddddd', args, pos)
    local d = decision()
    local units = units
    local kept_q, kept_r, at = 0, 0, nil -- no at: a new key
    local q, r = first_q, first_r

    if value then
      local under, instant, other
      if size == 40 then
        q, r, under, instant, other = read('<ddddd', value, from)
      end
      if size == 40 and sound(q, TIME_MAX) and sound(under, TIME_MAX) and sound(r, under - 1) and sound(instant, TIME_MAX)
        and sound(other, TIME_MAX) then
        kept_q, kept_r = convert(q, r, under, count)
        if other ~= burst then
          if less(cap_q, cap_r, kept_q, kept_r) then
            local beyond_q, beyond_r = minus(kept_q, kept_r, cap_q, cap_r, count)
            local units_beyond, rest = muldiv(beyond_q, count, beyond_r, period / UNIT)
            d.cut = rest > 0 and units_beyond + 1 or units_beyond
            kept_q, kept_r = cap_q, cap_r
          end
        elseif less(most_q, most_r, kept_q, kept_r) then
          kept_q, kept_r = most_q, most_r
        end
        at = instant
      else
        d.damaged = true
        q, r = first_q, first_r
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
    if at then
      q, r = used_after(kept_q, kept_r, now - at, cap_q, cap_r, count)
    elseif less(cap_q, cap_r, q, r) then
      q, r = cap_q, cap_r
    end

    local state
    if kind == SETTLE then
      if at or units >= 0 then
        local instant = at and at > now and at or now
        if at then
          q, r = used_after(kept_q, kept_r, instant - at, cap_q, cap_r, count)
        end
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
        state = write('<ddddd', q, r, count, instant, burst)
        q, r = used_after(q, r, now - instant, cap_q, cap_r, count)
      end
    elseif units < 0 or units > burst then
      d.verdict = NEVER
    elseif units > 0 then
      local need_q, need_r = plus(q, r, cost_q, cost_r, count)
      if not less(cap_q, cap_r, need_q, need_r) then
        if kind == TAKE then
          q, r = need_q, need_r
          state = write('<ddddd', q, r, count, now, burst)
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
        state = changed and write('<ddddd', q, r, count, now, burst) or nil
        local end_q, end_r = plus(full_q, full_r, cap_q, cap_r, count)
        if less(end_q, end_r, q, r) then
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
    d.expires = now + d.reset + (fills == 1 and 0 or RETENTION)
    return d, state
  end
end
