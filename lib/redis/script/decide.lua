
-- The call where that is not all: any number of limits, charged all or none.

-- The value of a key: the magic, then for each limit its signature, its length, the instant from which it is
-- as good as none, and its state. False if it is none.
local function parse(value, limits)
  if sub(value, 1, 4) ~= MAGIC then
    return false
  end
  local from = 5
  while from <= #value do
    if from + 19 > #value then
      return false
    end
    local signature, size, expires = read('<c8I4d', value, from)
    if from + 19 + size > #value or not sound(expires, FOREVER) then
      return false
    end
    limits[#limits + 1] = {
      signature = signature,
      expires = expires,
      value = value,
      from = from + 20,
      size = size,
      parts = false, -- in place of the value
      slot = false, -- asked for
    }
    from = from + 20 + size
  end
  return true
end

local keys = {}
for i, name in ipairs(KEYS) do
  local value = redis.pcall('GET', name)
  local limits = {}
  local damaged = false
  if type(value) == 'table' then
    if not string.find(value.err, 'WRONGTYPE', 1, true) then
      return value
    end
    damaged = true
  elseif value and not parse(value, limits) then
    damaged = true
    limits = {}
  end
  keys[i] = { name = name, limits = limits, damaged = damaged, changed = false }
end

-- the counters asked for; limit: what stands in the value, if anything
local slots = {}
for i = 1, slots_n do
  local k, signature
  k, signature, pos = read('<dc8', args, pos)
  local slot = { key = keys[k], signature = signature, limit = false, lease = false, leases = nil }
  local leases = lease_signature(signature)
  for _, limit in ipairs(slot.key.limits) do
    if limit.signature == signature then
      slot.limit = limit
      limit.slot = true
    elseif limit.signature == leases then
      slot.lease = limit
      slot.leases = leases_read(limit.value, limit.from, limit.size)
      limit.slot = limit.expires > now
    end
  end
  slots[i] = slot
end

local charges = {}
for i = 1, charges_n do
  local slot, algorithm, size, branch, group, units, max_wait, charged_at
  slot, algorithm, size, branch, group, units, max_wait, charged_at, pos = read('<dddddddd', args, pos)
  charges[i] = {
    slot = slots[slot],
    holds = algorithm == HOLDS,
    quota = algorithm == 7,
    branch = branch,
    group = group,
    damaged = slots[slot].key.damaged,
    step = step_of(algorithm, units, max_wait, kind == LEASE and now or charged_at, args, pos),
    spared = false,
    decision = false,
    head = false, -- the new state, in up to three parts
    middle = false,
    tail = false,
  }
  pos = pos + size
end

local function ask(charge, how)
  local limit = charge.slot.limit
  local d
  if limit and limit.expires > now then
    if not limit.value then
      limit.value, limit.from = table.concat(limit.parts), 1
    end
    d, charge.head, charge.middle, charge.tail =
      charge.step(how, limit.value, limit.from, limit.size, nil, charge.slot.leases)
  else
    d, charge.head, charge.middle, charge.tail = charge.step(how, nil, nil, nil, nil, charge.slot.leases)
  end
  charge.decision = d
  charge.damaged = charge.damaged or d.damaged
  return d.verdict > WAIT
end

-- then=: a quota that lacks the units hands over to the other branch of its group
local used_up = {}
for i = 1, kind <= PEEK and charges_n or 0 do
  local charge = charges[i]
  if charge.branch == 1 and charge.quota and ask(charge, PEEK) then
    used_up[charge.group] = true
  end
end

-- a refusal changes nothing, but those that refuse may have healed their states
local refused = false
local told = {} -- to a host that draws units, behind its decisions
for i = 1, charges_n do
  local charge = charges[i]
  if kind == LEASE then
    charge.decision, told[i] = lease(charge, 64 * i - 63)
  elseif kind > PEEK then
    charge.spared = charge.holds ~= (kind ~= SETTLE)
  else
    charge.spared = charge.branch ~= 0 and (used_up[charge.group] or false) == (charge.branch == 1)
  end
  if kind ~= LEASE and not charge.spared and ask(charge, kind) and kind <= PEEK then
    refused = true
  end
end
for i = 1, charges_n do
  local charge = charges[i]
  if not charge.spared then
    if refused and charge.decision.verdict <= WAIT then
      ask(charge, PEEK)
    end
    local head, middle, tail = charge.head, charge.middle, charge.tail
    if head then
      local slot = charge.slot
      local limit = slot.limit
      if not limit then
        limit = { signature = slot.signature, expires = 0, value = false, from = 1, size = 0, parts = false, slot = true }
        slot.key.limits[#slot.key.limits + 1] = limit
        slot.limit = limit
      end
      limit.value = not middle and head
      limit.from = 1
      limit.parts = middle and { head, middle, tail }
      limit.size = #head + (middle and #middle or 0) + (tail and #tail or 0)
      limit.expires = charge.decision.expires
      if charge.slot.leases then -- while units are held above, nothing drains
        limit.expires = clamp(limit.expires + charge.slot.leases.ends - now, FOREVER)
      end
      slot.key.changed = true
    end
  end
end
for _, key in ipairs(keys) do
  if key.changed then
    -- other limits than those asked for: not those that have expired, and of too many not those that expire first
    local others = 0
    for _, limit in ipairs(key.limits) do
      if not limit.slot then
        others = others + 1
      end
    end
    if others > OTHERS_MAX then
      others = others - lease_stays(key.limits)
    end
    if others > 0 then
      table.sort(key.limits, function(a, b)
        if a.slot ~= b.slot then
          return a.slot
        end
        return a.expires > b.expires
      end)
      local most = #key.limits - others + OTHERS_MAX
      for k = #key.limits, 1, -1 do
        local limit = key.limits[k]
        if not limit.slot and (k > most or limit.expires <= now) then
          key.limits[k] = nil
        end
      end
    end
    local parts = { MAGIC }
    local last = 0
    for _, limit in ipairs(key.limits) do
      parts[#parts + 1] = write('<c8I4d', limit.signature, limit.size, limit.expires)
      if limit.value then
        parts[#parts + 1] = limit.from == 1 and limit.value or sub(limit.value, limit.from, limit.from + limit.size - 1)
      else
        for _, part in ipairs(limit.parts) do
          parts[#parts + 1] = part
        end
      end
      last = limit.expires > last and limit.expires or last
    end
    redis.call('SET', key.name, table.concat(parts), 'PX', lifetime(last))
  end
end

local answer = { write('<dd', FORMAT, now) }
for _, charge in ipairs(charges) do
  local d = charge.decision or decision()
  local flags = d.verdict + (charge.damaged and 4 or 0) + (charge.spared and 8 or 0) + (kind <= PEEK and 16 * d.late or 0)
  answer[#answer + 1] = write('<dddddd', flags, d.wait, d.retry, d.next, d.reset, d.remaining)
end
for _, numbers in ipairs(told) do
  answer[#answer + 1] = write('<dddd', unpack(numbers))
end
return table.concat(answer)
