-- Licensed under the Apache License, Version 2.0; see LICENSE.

-- What decides in Redis what the steps of lib/algorithm decide in C, with the same results to the microsecond
-- and the thousandth. The parts are put together in the order of lib/redis/redis.am; lib/redis/script.c packs
-- the call and reads the answer.
--
-- Numbers are doubles here. All that is kept, passed and answered is a whole number below 2^53, which doubles
-- hold exactly; lib/redis/script.c refuses limits whose numbers could grow further. The one larger thing,
-- credit (count for each microsecond, up to 2^63 in C), is a span in whole microseconds and a rest below
-- count.
--
-- Names in capitals that stand for a number or a text are replaced by it (embed.sh): to a closure each would be an
-- upvalue, made anew with each call.

local floor, fmod = math.floor, math.fmod
local read, write, sub = struct.unpack, struct.pack, string.sub

local TAKE, PEEK, SETTLE, RELEASE, RENEW = 0, 1, 2, 3, 4
local ALLOW, WAIT, DENY, NEVER = 0, 1, 2, 3
local UNIT, SECOND = 1000, 1000000
local SKEW = 1000000
local EXACT = 9007199254740992
local FOREVER = 9007199254740992 -- of instants and spans: does not come
local TIME_MAX = 4503599627370496 -- EXACT / 2

local now -- microseconds since the epoch, by this server

-- quotient and rest of (a * b + c) / d; a, b below 2^53, c below 2^40, d up to 2^50, the quotient below 2^52
local function muldiv(a, b, c, d)
  local p = a * b
  if p + c < EXACT then
    local rest = fmod(p + c, d)
    return (p + c - rest) / d, rest
  end
  -- what a double product has lost to rounding (Dekker)
  local function lost(x, y, product)
    local t = 134217729 * x
    local xh = t - (t - x)
    local xl = x - xh
    t = 134217729 * y
    local yh = t - (t - y)
    local yl = y - yh
    return xl * yl - (((product - xh * yh) - xl * yh) - xh * yl)
  end
  local q = floor(p / d)
  local back = q * d
  local rest = (p - back) + (lost(a, b, p) - lost(q, d, back)) + c
  local left = fmod(rest, d)
  if left < 0 then
    left = left + d
  end
  return q + (rest - left) / d, left
end

-- whole times that b goes into a, rounded down
local function whole(a, b)
  local rest = fmod(a, b)
  if rest < 0 then
    rest = rest + b
  end
  return (a - rest) / b
end

local function clamp(x, most)
  return x < most and x or most
end

-- a whole number from 0 to most
local function sound(x, most)
  return x >= 0 and x <= most and floor(x) == x
end

-- credit: is it less, what do two make, what is left, how long does it take, rounded up

local function less(aq, ar, bq, br)
  return aq < bq or (aq == bq and ar < br)
end

local function plus(aq, ar, bq, br, count)
  local r = ar + br
  if r >= count then
    return aq + bq + 1, r - count
  end
  return aq + bq, r
end

-- below nothing: a span below 0
local function minus(aq, ar, bq, br, count)
  local r = ar - br
  if r < 0 then
    return aq - bq - 1, r + count
  end
  return aq - bq, r
end

local function span(q, r)
  return r > 0 and q + 1 or q
end

-- what was written under another count, in credit of this one; not more than can be in use at all
local function convert(q, r, from, count)
  if from == count then
    return q, r
  end
  if q * from / count > TIME_MAX then
    return TIME_MAX, 0
  end
  return muldiv(q, from, r, count)
end

-- what is used of a bucket when some time has passed: no more than a full one beyond what was kept
local function used_after(kept_q, kept_r, passed, cap_q, cap_r, count)
  local q = kept_q - passed
  if q < 0 then
    return 0, 0
  end
  local full_q, full_r = plus(kept_q, kept_r, cap_q, cap_r, count)
  if less(full_q, full_r, q, kept_r) then
    return full_q, full_r
  end
  return q, kept_r
end

-- tables are made with all that they will have: growing one costs more than all the rest of it
local function decision()
  return { verdict = ALLOW, wait = 0, retry = 0, next = 0, reset = 0, remaining = 0, expires = 0, turn = FOREVER,
    damaged = false }
end

-- a key that starts with less than it holds is forgotten so long after it is full
local RETENTION = 2592000000000 -- 30 days

-- The step of an algorithm, by its number, for the parameters at a position of the arguments. The step gets a
-- state as a part of a value, or none: step(kind, value, from, size). It answers a decision and, if it has
-- changed, the state, in up to three strings. A state that cannot be its own is judged as none and told as
-- damaged. With n it is asked about so many units; leases are those of the limit (lease.lua): step(kind, value, from,
-- size, n, leases). A decision's turn is when the window of what is taken now ends. One function makes all of them, so that a call makes no more closures than it needs.
local function step_of(number, units, max_wait, charged_at, args, pos)
