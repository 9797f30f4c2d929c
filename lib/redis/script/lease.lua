
-- Leases: units that a host has drawn ahead, to spend them without asking. They are charged when they are drawn,
-- so the limit holds whatever becomes of them; but they are spent later. What a window counts does not mind that,
-- since no lease outlives its window. What drains does: units drain from when they are told to be spent, at the
-- latest from the end of their lease, and until then the state is held above the sum of all leases. So is what a window
-- counts when others give units back: those that hosts hold are still to be spent.

local LEASE = 5
local LEASE_SIZE = 40
local LEASES_MAX = 256 -- of one limit: hosts beyond get what they need at once
local LEASE_MOST = 60000000 -- a minute

-- under which a limit's leases stand beside it
local function lease_signature(signature)
  return string.char(255 - string.byte(signature)) .. sub(signature, 2)
end

-- Among other limits than those asked for, those with leases stay, and so do their leases; how many. Without its
-- leases a limit would be exceeded.
local function lease_stays(limits)
  local partners = {}
  for _, limit in ipairs(limits) do
    partners[lease_signature(limit.signature)] = true
  end
  local stay = 0
  for _, limit in ipairs(limits) do
    if not limit.slot and partners[limit.signature] and limit.expires > now then
      limit.slot = true
      stay = stay + 1
    end
  end
  return stay
end

-- The leases in the order of their ends, and the sum of their units. What is none counts for nothing.
local function leases_read(value, from, size)
  local leases = { units = 0, held = 0, ends = now } -- held: those that are not void
  for at = from, from + size - LEASE_SIZE, LEASE_SIZE do
    local id, sequence, spent, units, ends = read('<c8dddd', value, at)
    if sound(sequence, EXACT) and sound(spent, EXACT) and sound(units, EXACT) and sound(ends, TIME_MAX) then
      ends = clamp(ends, now + LEASE_MOST)
      leases[#leases + 1] = { id = id, sequence = sequence, spent = spent, units = units, ends = ends }
      leases.units = leases.units + units
      leases.held = leases.held + (ends > now and units or 0)
      leases.ends = ends > leases.ends and ends or leases.ends
    end
  end
  table.sort(leases, function(a, b)
    return a.ends < b.ends
  end)
  return leases
end

-- One host says how many units it has spent since its lease began and how many it still has; below 0: how many it
-- was charged too few. What it was granted beyond both it never got, or returns. It needs some, and wants more.
-- What it needs is for a request that waits: if it gets no more, it has nothing left as soon as it hears of it, and
-- a bucket holds these units no longer than that.
-- Answers the last decision, and what the host is told besides.
local function lease(charge, pos)
  local id, sequence, spent, has, need, want, most, soon = read('<c8ddddddd', ARGV[2], pos)
  local slot = charge.slot
  local limit = slot.limit
  local value, from, size
  local drawn = now -- no unit that the host still has was drawn before this
  if limit and limit.expires > now then
    value, from, size = limit.value, limit.from, limit.size
  end
  local function run(how, n)
    local d, state = charge.step(how, value, from, size, n, slot.leases, drawn)
    if state then
      value, from, size, charge.head = state, 1, #state, state
    end
    charge.damaged = charge.damaged or d.damaged
    return d
  end

  local own
  local kept = { units = 0, ends = now }
  for _, one in ipairs(slot.leases or {}) do
    if one.id == id then
      own = one
    elseif one.ends > now then
      kept[#kept + 1] = one
      kept.units = kept.units + one.units
      kept.ends = one.ends > kept.ends and one.ends or kept.ends
    end
  end
  if own and sequence <= own.sequence then
    return run(PEEK, 0), { 0, 0, FOREVER, kept.units } -- was overtaken: changes nothing
  end

  drawn = own and own.ends - most or now
  local held = has > 0 and has or 0
  local debt = held - has
  local lives = own and own.ends > now
  local known = lives and own.units - (spent - own.spent) or -debt
  local others = kept.units
  local before_value, before_from, before_size = value, from, size
  local owed = has - known + debt
  local beyond = run(SETTLE, owed).cut or 0
  if beyond > 0 then
    value, from, size, charge.head = before_value, before_from, before_size, nil
    if beyond + owed <= 0 then
      run(SETTLE, beyond + owed) -- what is given back is what was used beyond first
    else
      -- what a larger plan has used stays used while this one refuses, or who asked under both would have it back
      local d = run(PEEK, need)
      if need == 0 or d.verdict ~= ALLOW then
        return run(TAKE, need), { 0, most, d.turn, others }
      end
      run(SETTLE, owed)
    end
  end
  kept.units = others + held
  slot.leases = kept

  local d = run(PEEK, 0)
  -- of a bucket under two limits nothing is drawn ahead: what is given back may never have been charged to the second
  local share = d.second and 0 or whole(d.remaining, #kept + 2) * UNIT
  local granted = clamp(want, #kept < LEASES_MAX and share or 0)
  granted = granted > need and granted or need
  if granted > 0 then -- one that is refused, too: that heals what a clock which stepped back has left in the future
    d = run(TAKE, granted)
    granted = d.verdict == ALLOW and granted or 0
  end
  local spends = need > 0 and granted == need and d.turn == FOREVER and not charge.quota
  local ends = now + clamp(spends and soon or most, d.turn)
  if d.second and held > 0 and lives then
    ends = clamp(ends, own.ends) -- or nobody could tell when that was drawn
  end
  if #kept < LEASES_MAX then
    kept[#kept + 1] = { id = id, sequence = sequence, spent = spent, units = held + granted, ends = ends }
    kept.ends = ends > kept.ends and ends or kept.ends
  end
  local records = {}
  for i, one in ipairs(kept) do
    records[i] = write('<c8dddd', one.id, one.sequence, one.spent, one.units, one.ends)
  end
  if not slot.lease then
    slot.lease = { signature = lease_signature(slot.signature), parts = false }
    table.insert(slot.key.limits, slot.lease)
  end
  slot.lease.value = table.concat(records)
  slot.lease.from, slot.lease.size = 1, #slot.lease.value
  slot.lease.expires, slot.lease.slot = kept.ends, true
  slot.key.changed = true
  return d, { granted + debt, ends - now, d.turn, others }
end
