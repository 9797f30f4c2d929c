
-- Its periods come with the call: the one of the asking host's wall clock, with the one before and the two
-- after. Which of them counts, this server's clock says, so that hosts whose clocks differ agree at the edge.
-- Where they are more than that apart, the nearest counts.
if number == 7 then
  local burst, initial, calendar, e0, e1, e2, e3, e4 = read('<dddddddd', args, pos)
  local edges = { e0, e1, e2, e3, e4 }
  local GRACE = 86400 * SECOND
  -- largest: burst that it was charged under in this period, 0 if new; last: the end of the period
  local begin, used, largest, last

  local function period(t)
    local i = 1
    while i < 4 and t >= edges[i + 1] do
      i = i + 1
    end
    return edges[i], edges[i + 1]
  end

  local function load(value, from, size)
    if size ~= 24 then
      return false
    end
    local b, u, most = read('<ddd', value, from)
    if not (b >= -TIME_MAX and b <= TIME_MAX and floor(b) == b and (calendar == 1 or b == 0)
      and sound(most, TIME_MAX) and most > 0 and sound(u, most)) then
      return false
    end
    begin, used, largest = b, u, most
    return true
  end

  local function turn(wall)
    local first = 0
    local healed = false
    last = FOREVER
    if calendar == 1 then
      first, last = period(wall)
    end
    if largest == 0 then
      begin, used = first, burst - initial
    elseif begin < first then
      begin, used, largest = first, 0, 0
    elseif begin - wall > SKEW then
      begin, healed = first, true
    elseif begin >= last then
      first, last = period(begin)
    end
    largest = largest > burst and largest or burst
    return healed
  end

  local function settle(wall, seen, held)
    local charged = seen and (calendar == 0 or wall - (now - charged_at) >= begin)
    if largest == 0 or (units <= 0 and not charged) then
      return false
    end
    local least = clamp(held, used)
    used = used + units
    -- what a larger plan has used stays so, and what is charged late under a smaller one counts under it, too
    used = used < least and least or clamp(used, largest)
    return true
  end

  local function take(d, kind, left, wall)
    if units < 0 or units > burst or burst == 0 then
      d.verdict = NEVER
    elseif units > 0 and units > burst - used then
      d.verdict = left == FOREVER and NEVER or DENY
      d.retry = left == FOREVER and 0 or left
    elseif kind == TAKE and units > 0 then
      d.late = calendar == 1 and begin > wall and begin - wall or 0
      used = used + units
      return true
    end
    return false
  end

  return function(kind, value, from, size, n, leases)
    local d = decision()
    units = n or units
    local changed
    local wall = now
    if calendar == 1 then
      wall = wall < e0 and e0 or clamp(wall, e4 - 1)
    end
    begin, used, largest = 0, 0, 0
    d.damaged = value ~= nil and not load(value, from, size)
    local seen = largest > 0
    local healed = turn(wall)
    local left = (last == FOREVER or burst == 0) and FOREVER or last - wall
    if kind == SETTLE then
      changed = settle(wall, seen, not n and leases and leases.held or 0)
    else
      changed = take(d, kind, left, wall)
      changed = changed or (healed and kind == TAKE and d.verdict == DENY)
    end
    d.remaining = used < burst and whole(burst - used, UNIT) or 0
    d.reset = left
    d.next = d.remaining > 0 and 0 or left
    d.turn = left
    d.expires = left == FOREVER and FOREVER or now + left + GRACE
    return d, changed and write('<ddd', begin, used, largest) or nil
  end
end
