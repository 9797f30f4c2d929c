-- Licensed under the Apache License, Version 2.0; see LICENSE.

-- What all steps reckon with.

local floor, fmod = math.floor, math.fmod
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

-- A bucket of credit takes who comes with an older reading of the clock than its state's for one that comes so much
-- later (lib/algorithm/reading.h); the decision, in spans from the reading, of a state that is so far ahead by now.

local function lateness(at, now)
  return at and at > now and at - now <= SKEW and at - now or 0
end

local function tell_late(d, late, ahead)
  local function since(span)
    if span == 0 or span >= FOREVER then
      return span
    end
    return span > ahead and span + late or clamp(span, ahead - SKEW)
  end
  d.late = d.verdict <= WAIT and late or 0
  d.retry, d.next, d.reset = since(d.retry), since(d.next), since(d.reset)
end

-- One counter under two limits (lib/algorithm/second.h): what they are told apart by, a burst and a count in 26 bits
-- each; in how many microseconds the second earns so many thousandths; and the instant from which nothing is used under
-- it, when units are charged or given back. A burst below 0 is of one that has been charged less than all (SECOND_CUT).
-- Made where there are two alone.
local function second_of(period)
  local function narrow(x, up)
    local _, size = math.frexp(x)
    local digit = size > 26 and math.ldexp(1, size - 26) or 1
    local rest = fmod(x, digit)
    return x - rest + (up and rest > 0 and digit or 0)
  end

  local function time(n, count, up)
    if n * (period / UNIT) / count >= TIME_MAX then
      return TIME_MAX
    end
    local q, r = muldiv(n, period / UNIT, 0, count)
    return (up and r > 0) and q + 1 or q
  end

  return narrow, function(full, burst, count, was, instant, turn, n, more)
    local cut = burst < 0
    burst = cut and -burst or burst
    if was and was - instant > SKEW then
      full = full > was - instant and full - was + instant or 0
    end
    local all = time(burst + more, count, true)
    local from = full > instant and full or instant
    if n >= 0 then
      local most = from > turn + all and from or turn + all
      local sum = from + time(n, count, true)
      return clamp(sum, most), (cut or sum > most) and -burst or burst
    elseif turn >= FOREVER or full - all < turn and not cut then
      local sum = from - time(-n, count)
      full = sum > instant and sum or instant
    end
    return full, cut and -burst or burst
  end
end

-- The same in units (second_settle_units()): what is used under the second limit, up to what it holds at the turn, when
-- units are charged or given back, and whether it has been charged less than all.
local function second_units(used, cut, units, charged_at, most)
  if units < 0 and cut and charged_at < FOREVER then
    return used, true
  end
  cut = cut or units >= 0 and used + units > most
  if used < most then
    used = used + units
    used = used < 0 and 0 or clamp(used, most)
  end
  return used, cut
end

-- tables are made with all that they will have: growing one costs more than all the rest of it
local function decision()
  return { verdict = ALLOW, late = 0, wait = 0, retry = 0, next = 0, reset = 0, remaining = 0, expires = 0,
    turn = FOREVER, damaged = false }
end

-- The step of an algorithm, by its number, for the parameters at a position of the arguments. The step gets a
-- state as a part of a value, or none: step(kind, value, from, size). It answers a decision and, if it has
-- changed, the state, in up to three strings. A state that cannot be its own is judged as none and told as
-- damaged; late: what was taken counts from so much after now. For a lease it is asked about n units: step(kind, value, from, size, n, leases, drawn); leases are those of
-- the limit (lease.lua), and no unit that the host still has was drawn before that instant. A decision's turn is when
-- the window of what is taken now ends; its cut is what another plan, a larger one, has used beyond what this one has,
-- in units; it is second where the state has another limit, too. One function makes all of them, so that a call makes
-- no more closures than it needs.
local function step_of(number, units, max_wait, charged_at, args, pos)
