
end

-- The call of one limit, by any algorithm.

-- Milliseconds until all is as good as none; a test's clock is not the one that keys expire by.
local function lifetime(last)
  local ms = last == FOREVER and TTL_MAX or clamp(-whole(now - last, 1000), TTL_MAX)
  if clock >= 0 and ms < 3600000 then
    ms = 3600000
  end
  return ms > 0 and ms or 1
end

-- Most calls are about one limit, which is all that its key holds: the same as below, without the lists. Nothing is
-- done where there is more to it.
if kind <= PEEK and slots_n == 1 and charges_n == 1 and read('<d', args, pos + 40) == 0 then
  local value = redis.pcall('GET', KEYS[1])
  local signature = sub(args, pos + 8, pos + 15)
  local size, expires = 0, 0
  if value and type(value) == 'string' and #value >= 24 then
    size, expires = read('<I4d', value, 13)
  end
  if not value or size == #value - 24 and sub(value, 1, 4) == MAGIC and sub(value, 5, 12) == signature and sound(expires, FOREVER) then
    local _, algorithm, _, _, _, units, max_wait, charged_at, at = read('<dddddddd', args, pos + 16)
    local step = step_of(algorithm, units, max_wait, charged_at, args, at)
    local d, head, middle, tail
    if expires > now then
      d, head, middle, tail = step(kind, value, 25, size)
    else
      d, head, middle, tail = step(kind)
    end
    if head then
      head = head .. (middle or '') .. (tail or '')
      redis.call('SET', KEYS[1], MAGIC .. signature .. write('<I4d', #head, d.expires) .. head, 'PX', lifetime(d.expires))
    end
    return write('<dddddddd', FORMAT, now, d.verdict + (d.damaged and 4 or 0) + 16 * d.late, d.wait, d.retry, d.next, d.reset, d.remaining)
  end
end
