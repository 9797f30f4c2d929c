
-- A place is a holder's, 8 bytes that the caller chose, until its lease ends; each renewal puts it at the end
-- of the list. So the first end first, but for leases of different length: then a place may come free later
-- than its own lease says, when those before it have ended.
algorithms[8] = function(units, max_wait, charged_at, args, pos)
  local count, lease, holder = read('<ddc8', args, pos)
  local PLACE = 16
  local list

  local function load(state)
    if #state % PLACE ~= 0 then
      return false
    end
    list = state
    return true
  end

  local function drop()
    local from = 1
    while from < #list do
      local expires = read('<d', list, from + 8)
      if expires > now and expires <= TIME_MAX then
        break
      end
      from = from + PLACE
    end
    list = sub(list, from)
  end

  -- where the holder's place stands; nil: nowhere
  local function own()
    local from = string.find(list, holder, 1, true)
    while from and (from - 1) % PLACE ~= 0 do
      from = string.find(list, holder, from + 1, true)
    end
    return from
  end

  local function remove(from)
    list = sub(list, 1, from - 1) .. sub(list, from + PLACE)
  end

  -- a place for another lease: the one it has, or a new one
  local function take(d, kind)
    local from = own()
    if not from and #list / PLACE >= count then
      d.verdict, d.retry = DENY, SECOND
      return false
    end
    if kind == PEEK then
      return false
    end
    if from then
      remove(from)
    end
    list = list .. write('<c8d', holder, now + lease)
    return true
  end

  local function release()
    local from = own()
    if from then
      remove(from)
    end
    return from ~= nil
  end

  local function report(d)
    local held = #list / PLACE
    d.remaining = held < count and count - held or 0
    d.next = d.remaining > 0 and 0 or SECOND
    d.reset = held > 0 and SECOND or 0
    d.expires = held > 0 and read('<d', list, #list - 7) or now
  end

  return function(kind, state)
    local d = decision()
    local changed = false
    list = ''
    d.damaged = state ~= nil and not load(state)
    drop()
    if kind == RELEASE then
      changed = release()
    elseif kind == RENEW then
      changed = take(d, kind)
    elseif units < 0 then
      d.verdict = NEVER
    elseif units > 0 then
      changed = take(d, kind)
    end
    report(d)
    return d, changed and list or nil
  end
end
