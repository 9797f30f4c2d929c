-- Licensed under the Apache License, Version 2.0; see LICENSE.

-- What decides in Redis what the steps of lib/algorithm decide in C, with the same results to the microsecond
-- and the thousandth. The parts are put together in the order of lib/redis/redis.am; lib/redis/script.c packs
-- the call and reads the answer.
--
-- Numbers are doubles here. All that is kept, passed and answered is a whole number below 2^53, which doubles
-- hold exactly; lib/redis/script_limit.c refuses limits whose numbers could grow further. The one larger thing,
-- credit (count for each microsecond, up to 2^63 in C), is a span in whole microseconds and a rest below
-- count.
--
-- Names in capitals that stand for a number or a text are replaced by it (embed.sh): to a closure each would be an
-- upvalue, made anew with each call.

local read, write, sub = struct.unpack, struct.pack, string.sub

local TAKE, PEEK, SETTLE, RELEASE, RENEW = 0, 1, 2, 3, 4
local ALLOW, WAIT, DENY, NEVER = 0, 1, 2, 3
local UNIT, SECOND = 1000, 1000000
local SKEW = 1000000
local EXACT = 9007199254740992
local FOREVER = 9007199254740992 -- of instants and spans: does not come
local TIME_MAX = 4503599627370496 -- EXACT / 2
-- a key that starts with less than it holds is forgotten so long after it is full
local RETENTION = 2592000000000 -- 30 days

local HOLDS = 8 -- the algorithm that counts what is in flight
local FORMAT = 1
local MAGIC = 'rlp1'
local OTHERS_MAX = 16 -- limits of other plans that are kept until they expire
local TTL_MAX = 316224000000 -- ten years
local args = ARGV[1]

local format, kind, clock, slots_n, charges_n, pos = read('<ddddd', args)
if format ~= FORMAT then
  return redis.error_reply('RLP the script does not know this format of calls')
end
local now = clock -- microseconds since the epoch; by this server, but in tests
if clock < 0 then
  local time = redis.call('TIME')
  now = time[1] * SECOND + time[2]
end

-- What nearly every call is: one limit, a token bucket with units enough in it, and a state as this script leaves it. Said
-- here without a function, since making those that follow takes longer than all of this; whatever is different is
-- left to them.
if kind == TAKE and slots_n == 1 and charges_n == 1 then
  local _, signature, _, algorithm, _, branch, _, units, max_wait, _, at = read('<dc8dddddddd', args, pos)
  if algorithm == 1 and branch == 0 and units > 0 and max_wait == 0 then
    local count, period, burst, _, fills, cap_q, cap_r, one_q, one_r, cost_q, cost_r, _, _, most_q, most_r, q, r =
      read('<ddddddddddddddddd', args, at)
    local value = redis.pcall('GET', KEYS[1])
    local usual = not value and units <= burst and burst >= UNIT
    if value and type(value) == 'string' and #value == 64 and sub(value, 1, 4) == MAGIC and sub(value, 5, 12) == signature then
      local size, expires, kept_q, kept_r, under, instant, other = read('<I4dddddd', value, 13)
      usual = size == 40 and under == count and other == burst and units <= burst and burst >= UNIT
        and expires > now and expires <= FOREVER and expires % 1 == 0 and instant >= 0 and instant <= now and instant % 1 == 0
        and kept_q >= 0 and (kept_q < most_q or kept_q == most_q and kept_r <= most_r) and kept_q % 1 == 0
        and kept_r >= 0 and kept_r < count and kept_r % 1 == 0
      q, r = kept_q - (now - instant), kept_r
      if q < 0 then
        q, r = 0, 0
      end
    end
    q, r = q + cost_q, r + cost_r
    if r >= count then
      q, r = q + 1, r - count
    end
    local left = (cap_q - q) * count + (cap_r - r)
    if usual and left >= 0 and left < TIME_MAX then
      local remaining = left / period
      remaining = remaining - remaining % 1
      local next = 0
      if remaining == 0 then
        local need_q, need_r = q + one_q - cap_q, r + one_r - cap_r
        next = need_r > count and need_q + 2 or need_r > 0 and need_q + 1 or need_q
      end
      local reset = r > 0 and q + 1 or q
      local life = reset + (fills == 1 and 0 or RETENTION)
      local ms = life % 1000
      ms = (life - ms) / 1000 + (ms > 0 and 1 or 0)
      if clock >= 0 and ms < 3600000 then
        ms = 3600000
      end
      redis.call('SET', KEYS[1], MAGIC .. signature .. write('<I4dddddd', 40, now + life, q, r, count, now, burst),
        'PX', ms < TTL_MAX and ms or TTL_MAX)
      return write('<dddddddd', FORMAT, now, ALLOW, 0, 0, next, reset, remaining)
    end
  end
end
