/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The latch of a shard, whose owner may die at any instruction, and the undo of what it left
 * (lib/latch.c: latch_wait; lib/store/slab.c: slab_lock, slab_remember, slab_roll_back,
 * slab_settle). Who finds the latch taken looks whose it is, whether that one lives, and takes it from
 * the dead if it is still theirs. An update changes two lines; each is saved, counted as saved, then
 * written, and what was written counts from the moment on at which none is saved.
 *
 * Whoever has the lock finds both lines as the last update that counted left them: no more charged,
 * none lost, nothing torn. All who live come to their end.
 *
 * MUTANT: a line counts as saved before it is. ROBBER: who knows that the owner is dead takes the latch,
 * whosever it is by then.
 */

#define CHILDREN 3
#define UPDATES 2
#define DEATHS 3
#define FREE 255

byte line[2];
byte counted; /* updates that count */

byte owner = FREE;
bool dead[CHILDREN];
byte deaths;

byte undo_line[2];
byte undo_value[2];
byte undo_n;

#define MAY_DIE                                    \
    if                                             \
    :: deaths < DEATHS ->                          \
        atomic { deaths++; dead[me] = true; }      \
        goto gone                                  \
    :: true                                        \
    fi

inline remember(which)
{
#ifdef MUTANT
    undo_n = which + 1;
    MAY_DIE;
#endif
    undo_line[which] = which;
    MAY_DIE;
    undo_value[which] = line[which];
    MAY_DIE;
    undo_n = which + 1;
    MAY_DIE
}

inline roll_back()
{
    k = undo_n;
    do
    :: k > 0 ->
        k--;
        line[undo_line[k]] = undo_value[k];
        MAY_DIE
    :: else -> break
    od;
    undo_n = 0;
    MAY_DIE
}

proctype child(byte me)
{
    byte i = 0;
    byte k;
    byte value;
    byte seen;

    do
    :: i < UPDATES ->
take:
        atomic {
            seen = owner;
            if
            :: seen == FREE -> owner = me
            :: else
            fi
        }
        if
        :: seen == FREE
        :: else ->
            if
            :: dead[seen]
            :: else -> owner != seen || dead[seen]; goto take
            fi;
            atomic {
                if
#ifndef ROBBER
                :: owner != seen -> goto take
#endif
                :: else -> owner = me
                fi
            }
        fi;
        MAY_DIE;
        if
        :: seen != FREE -> roll_back()
        :: else
        fi;
        assert(line[0] == counted && line[1] == counted);
        value = line[0] + 1;
        remember(0);
        line[0] = value;
        MAY_DIE;
        remember(1);
        line[1] = value;
        MAY_DIE;
        atomic { undo_n = 0; counted++ }
        MAY_DIE;
        owner = FREE;
        i++
    :: else -> break
    od;
gone:
    skip
}

init
{
    byte i = 0;

    atomic {
        do
        :: i < CHILDREN -> run child(i); i++
        :: else -> break
        od
    }
}
