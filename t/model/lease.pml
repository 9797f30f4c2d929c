/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Two hosts that draw units of one token bucket ahead (lib/redis/lease.c, script/lease.lua):
 * questions that are executed late, twice or out of order, answers that are lost, leases that end,
 * units that come back before they were reported.
 *
 * What the hosts let pass never exceeds the bucket, which drains from the moment a unit is spent;
 * Redis has it drain from when it is told. A question that was overtaken changes nothing, and Redis
 * knows of all units that a host may spend. Nor does it hold more against them than it has leased or
 * was told of: what an answer that was lost has granted is there again for the next question.
 *
 * MUTANT: the bucket in Redis drains below what is leased. MISER: what is charged is not corrected by
 * what the host says that it has.
 */

#define HOSTS 2
#define BURST 2
#define QUESTIONS 2 /* of the first host; the other asks once */
#define TICKS 2
#define MAILS 2 /* of each host: one for each question */
#define REFUNDS 1

/* Redis */
byte used;
byte leased[HOSTS];   /* units of its record */
bool lives[HOSTS];    /* there is a record */
byte known[HOSTS];    /* of what the host has spent */
byte latest[HOSTS];   /* the number of its latest question */
byte past;            /* told of as spent, or void at a lease's end, and not drained since */

/* the promise */
byte level; /* of the bucket as it really is */

/* the hosts */
byte units[HOSTS];
byte spent[HOSTS];
byte reported[HOSTS];
byte sequence[HOSTS];
bool claimed[HOSTS];
bool lasts[HOSTS]; /* the lease, by the host's clock */
byte refunds;

byte ticks;

/* a question and its answer; by host and number */
typedef mail_t {
    bool sent;
    byte spent;
    byte has;
    byte executed; /* how often */
    bool answered; /* is there an answer that may still come */
    byte granted;
}
mail_t mails[4]; /* HOSTS * MAILS */

byte taken; /* of an execution */
byte other;
short cover;

#define MAIL(h, n) mails[(h) * MAILS + (n) - 1]

inline drain()
{
    ticks++;
    if
    :: past > 0 -> past--
    :: else
    fi;
    if
    :: used > leased[0] + leased[1] -> used--
    :: else ->
#ifdef MUTANT
        if
        :: used > 0 -> used--
        :: else
        fi
#else
        skip
#endif
    fi;
    if
    :: level > 0 -> level--
    :: else
    fi
}

/* script/lease.lua; as many as it likes are wanted */
inline execute(h, n)
{
    MAIL(h, n).executed++;
    if
    :: n <= latest[h] -> skip /* overtaken */
    :: else ->
        if
        :: lives[h] ->
            cover = leased[h] + known[h] - MAIL(h, n).spent;
            past = past + MAIL(h, n).spent - known[h]
        :: else -> cover = 0
        fi;
#ifndef MISER
        /* corrects what the record says by what the host says */
        used = (used + MAIL(h, n).has - cover > BURST -> BURST : used + MAIL(h, n).has - cover);
#endif
        leased[h] = MAIL(h, n).has;
        taken = 0;
        do
        :: used < BURST && taken < 2 -> used++; taken++
        :: break
        od;
        leased[h] = leased[h] + taken;
        lives[h] = true;
        known[h] = MAIL(h, n).spent;
        latest[h] = n;
        MAIL(h, n).granted = taken;
        MAIL(h, n).answered = true;
        if
        :: used < leased[0] + leased[1] -> used = leased[0] + leased[1]
        :: else
        fi;
        assert(used <= leased[0] + leased[1] + past);
        taken = 0;
        cover = 0
    fi
}

proctype host(byte h)
{
    byte n;

end:
    do
    :: atomic { units[h] > 0 ->
            units[h]--;
            spent[h]++;
            level++;
            assert(level <= BURST) }
    :: atomic { refunds < REFUNDS && lasts[h] && spent[h] > reported[h] && level > 0 ->
            refunds++;
            units[h]++;
            spent[h]--;
            level-- }
    :: atomic { sequence[h] < QUESTIONS - h ->
            /* the claim of an earlier one may have ended */
            sequence[h]++;
            claimed[h] = true;
            n = sequence[h];
            reported[h] = spent[h];
            MAIL(h, n).sent = true;
            MAIL(h, n).spent = spent[h];
            MAIL(h, n).has = units[h] }
    :: atomic { claimed[h] && MAIL(h, sequence[h]).answered ->
            claimed[h] = false;
            lasts[h] = true;
            units[h] = units[h] + MAIL(h, sequence[h]).granted;
            /* Redis knows of all that may be spent */
            assert(!lives[h] || leased[h] + known[h] >= units[h] + spent[h]);
            MAIL(h, sequence[h]).answered = false;
            n = 0 }
    od
}

/* what the network and time do */
proctype world()
{
    byte h;
    byte n;

end:
    do
    :: ticks < TICKS -> atomic { drain() }
    :: atomic {
            select(h : 0 .. 1);
            select(n : 1 .. 2);
            if
            :: MAIL(h, n).sent && MAIL(h, n).executed < 2 -> execute(h, n)
            :: else
            fi;
            h = 0;
            n = 0 }
    :: atomic { /* a lease ends: first at the host, and with the answers that would prolong it */
            select(h : 0 .. 1);
            if
            :: lives[h] ->
                units[h] = 0;
                lasts[h] = false;
                lives[h] = false;
                latest[h] = 0;
                past = past + leased[h];
                leased[h] = 0;
                n = 1;
                do
                :: n <= MAILS -> MAIL(h, n).answered = false; n++
                :: else -> break
                od
            :: else
            fi;
            h = 0;
            n = 0 }
    od
}

init
{
    atomic {
        run host(0);
        run host(1);
        run world()
    }
}
