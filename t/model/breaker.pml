/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The breaker that many children share (lib/redis/breaker.c): one word, changed by compare and
 * swap; late results; children that die with a probe under way; a server that comes and goes.
 *
 * One probe at a time: two are under way only when the first was given up. It opens only after
 * failures, and closes only by an answer that a probe got after it opened. When the server is there
 * for good, it is closed again: nothing is refused for ever.
 *
 * MUTANT: late news of requests from before it opened close it. EAGER: who has seen that a probe is
 * due sends one, whoever else did so since. HASTY: the first failure opens it.
 */

#define CHILDREN 2
#define ROUNDS 3
#define THRESHOLD 2
#define RECOVERY 1
#define PROBE 1
#define TICKS 5
#define CHANGES 2

mtype = { closed, open, half };

/* the word */
mtype phase = closed;
byte failures;
byte at;

byte now;
bool up = true;
byte changes;
byte opened;    /* how often it opened */
byte told;      /* failures in a row, told of while it was closed */
byte probes;    /* under way and not given up */
byte done;

/* the words a ticket has kept are compared as a whole */
#define SAME (phase == t_phase && failures == t_failures && at == t_at)

inline ask()
{
    admitted = false;
    probe = false;
    atomic { t_phase = phase; t_failures = failures; t_at = at; }
    if
    :: t_phase == closed -> admitted = true; asked_in = opened
    :: t_phase != closed && t_at <= now ->
        atomic {
            if
#ifdef EAGER
            :: true ->
#else
            :: SAME ->
#endif
                assert(phase != closed && at <= now);
                if
                :: phase == half -> probes-- /* given up */
                :: else
                fi;
                phase = half;
                failures = 0;
                at = now + PROBE;
                t_phase = phase;
                t_failures = 0;
                t_at = at;
                probes++;
                assert(probes <= 1);
                admitted = true;
                probe = true;
                asked_in = opened
            :: else
            fi
        }
    :: else
    fi
}

inline closes()
{
    /* by an answer to a question of its own time */
    assert(phase == closed || (answered && asked_in == opened && probe));
    if
    :: phase == half -> probes--
    :: else
    fi;
    phase = closed;
    failures = 0;
    at = 0;
    told = 0
}

inline opens()
{
    assert(probe || told >= THRESHOLD);
    phase = open;
    failures = 0;
    at = now + RECOVERY;
    opened++;
    told = 0
}

inline succeed()
{
    atomic {
        if
#ifdef MUTANT
        :: !probe -> closes()
#else
        :: !probe && phase == closed -> closes()
#endif
        :: probe && SAME -> closes()
        :: else
        fi
    }
}

inline fail()
{
    atomic {
        if
        :: !probe && phase == closed ->
            told++;
            failures++;
            if
            :: failures == 1 -> at = now
            :: else
            fi;
            if
#ifdef HASTY
            :: failures >= 1 -> opens()
#else
            :: failures >= THRESHOLD -> opens()
#endif
            :: else
            fi
        :: probe && SAME -> opens(); probes--
        :: else
        fi
    }
}

proctype child()
{
    byte i = 0;
    bool admitted;
    bool probe;
    bool answered;
    byte asked_in;
    mtype t_phase;
    byte t_failures;
    byte t_at;

    do
    :: i < ROUNDS ->
        ask();
        if
        :: admitted ->
            answered = up;
            if
            :: answered -> succeed()
            :: !answered -> fail()
            :: true -> break /* it died before it told */
            fi
        :: else
        fi;
        i++
    :: else -> break
    od;
    done++
}

proctype world()
{
    do
    :: now < TICKS -> now++
    :: changes < CHANGES -> atomic { up = !up; changes++ }
    :: done == CHILDREN -> break
    od
}

/* At the end the server is there, and somebody asks from time to time. */
proctype last()
{
    byte i = 0;
    bool admitted;
    bool probe;
    bool answered = true;
    byte asked_in;
    mtype t_phase;
    byte t_failures;
    byte t_at;

    done == CHILDREN;
    up = true;
    do
    :: i < 2 ->
        now = now + RECOVERY + PROBE;
        ask();
        assert(admitted);
        succeed();
        assert(phase == closed);
        i++
    :: else -> break
    od
}

init
{
    byte i = 0;

    atomic {
        do
        :: i < CHILDREN -> run child(); i++
        :: else -> break
        od;
        run world();
        run last()
    }
}
