
-- A place is a holder's, 8 bytes that the caller chose, until its lease ends. The list is in the order of the ends: a
-- place or its renewal comes last, but before those of longer leases.
if number == 8 then
  local count, lease, holder = read('<ddc8', args, pos)
  local PLACE = 16
  local LEASE_LEAST = 60000000 -- a minute
  local LEASE_LONGEST = 315619200000000 -- ten years
  local list, first, last -- last: behind its end
  local held, ends

  local function load(value, from, size)
    if size % PLACE ~= 0 then
      return false
    end
    list, first, last = value, from, from + size
    return true
  end

  local function drop()
    while first < last do
      local expires = read('<d', list, first + 8)
      if expires > now and expires <= TIME_MAX then
        break
      end
      first = first + PLACE
    end
  end

  -- A clock that stepped back has left places that end later than any lease from now: they have one from now. Those of
  -- limits with longer leases have a minute, too, and are renewed within a third of it (lib/redis/places.c). Damage may
  -- leave an end that no lease has; at the end of the list, it would stay there.
  local function heal()
    local most = now + (lease > LEASE_LEAST and lease or LEASE_LEAST)
    if first == last or read('<d', list, first + 8) <= most and read('<d', list, last - 8) <= now + LEASE_LONGEST then
      return false
    end
    local places = {}
    for at = first, last - PLACE, PLACE do
      local holder, expires = read('<c8d', list, at)
      places[#places + 1] = write('<c8d', holder, clamp(expires, most))
    end
    list = table.concat(places)
    first, last = 1, #list + 1
    return true
  end

  -- where the holder's place stands; nil: nowhere
  local function own()
    local at = string.find(list, holder, first, true)
    while at and at < last and (at - first) % PLACE ~= 0 do
      at = string.find(list, holder, at + 1, true)
    end
    return at and at < last and at or nil
  end

  -- the list without the place there
  local function without(at)
    if not at then
      return sub(list, first, last - 1)
    end
    held = held - 1
    return sub(list, first, at - 1) .. sub(list, at + PLACE, last - 1)
  end

  -- a place for another lease: the one it has or, but for a renewal, which may come late, a new one. The list with it,
  -- in up to three parts
  local function take(d, kind)
    local at = own()
    if not at and (kind == RENEW or held >= count) then
      d.verdict, d.retry = DENY, SECOND
      return nil
    end
    if kind == PEEK then
      return nil
    end
    local others = without(at)
    held = held + 1
    local expires = now + lease
    local to = #others + 1
    while to > 1 and read('<d', others, to - 8) > expires do
      to = to - PLACE
    end
    if to > #others then
      ends = expires
      return others, write('<c8d', holder, expires)
    end
    return sub(others, 1, to - 1), write('<c8d', holder, expires), sub(others, to)
  end

  local function release()
    local at = own()
    return at and without(at)
  end

  local function report(d)
    d.remaining = held < count and count - held or 0
    d.next = d.remaining > 0 and 0 or SECOND
    d.reset = held > 0 and SECOND or 0
    d.expires = held > 0 and ends or now
  end

  return function(kind, value, from, size)
    local d = decision()
    local changed, more, rest
    list, first, last = '', 1, 1
    d.damaged = value ~= nil and not load(value, from, size)
    drop()
    local healed = heal()
    held = (last - first) / PLACE
    ends = held > 0 and read('<d', list, last - 8) or now
    if kind == RELEASE then
      changed = release()
    elseif kind == RENEW then
      changed, more, rest = take(d, kind)
    elseif units < 0 then
      d.verdict = NEVER
    elseif units > 0 then
      changed, more, rest = take(d, kind)
    end
    if healed and kind ~= PEEK and not changed then
      changed = list
    end
    report(d)
    return d, changed, more, rest
  end
end
