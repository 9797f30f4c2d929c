/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A slot of two lines for which two keys contend, whose updates may be cut off at any instruction
 * (lib/store/slab.c: slab_write_anew, slab_write_changes, slab_write, slab_roll_back). The lock is
 * that of shard.pml: here it is taken in one step.
 *
 * A key that finds itself in the slot finds what its own last update left there, whole: never a
 * part of another key's state, never half an update. Nothing is lost but what the documentation
 * says: the state of a key that had to give way.
 *
 * MUTANT: what the slot held is not forgotten before its second line is written.
 */

#define CHILDREN 3
#define UPDATES 2
#define DEATHS 2
#define FREE 255
#define KEYS 2

/* the slot: the first line is key, live and head, the second is tail */
byte key;
bool live;
byte head;
byte tail;

byte last[KEYS]; /* what the key's last update that counted has left; 0: nothing, it gave way */

byte owner = FREE;
bool owner_died;
byte deaths;

byte undo_n;
bool undo_second[2]; /* which line */
byte undo_key[2];
bool undo_live[2];
byte undo_head[2];
byte undo_tail[2];

#define MAY_DIE                                    \
    if                                             \
    :: deaths < DEATHS ->                          \
        atomic { deaths++; owner_died = true; }    \
        goto dead                                  \
    :: true                                        \
    fi

inline remember_first()
{
    atomic {
        undo_second[undo_n] = false;
        undo_key[undo_n] = key;
        undo_live[undo_n] = live;
        undo_head[undo_n] = head;
    }
    MAY_DIE;
    undo_n++;
    MAY_DIE
}

inline remember_second()
{
    atomic { undo_second[undo_n] = true; undo_tail[undo_n] = tail; }
    MAY_DIE;
    undo_n++;
    MAY_DIE
}

inline roll_back()
{
    do
    :: undo_n > 0 ->
        atomic {
            if
            :: undo_second[undo_n - 1] -> tail = undo_tail[undo_n - 1]
            :: else ->
                key = undo_key[undo_n - 1];
                live = undo_live[undo_n - 1];
                head = undo_head[undo_n - 1]
            fi;
            undo_n--
        }
    :: else -> break
    od
}

inline write_first()
{
    /* a line is not written at once */
    key = mine;
    MAY_DIE;
    head = value;
    MAY_DIE;
    live = true;
    MAY_DIE
}

proctype child(byte me)
{
    byte i = 0;
    byte mine;
    byte value;

    do
    :: i < UPDATES ->
        if
        :: mine = 0
        :: mine = 1
        fi;
        atomic {
            owner == FREE || owner_died;
            if
            :: owner_died -> roll_back()
            :: else
            fi;
            owner_died = false;
            owner = me;
            /* what a key finds */
            if
            :: live -> assert(head == last[key] && tail == last[key])
            :: else
            fi
        }
        if
        :: live && key == mine ->
            value = head + 1;
            remember_second();
            tail = value;
            MAY_DIE;
            remember_first();
            write_first()
        :: else ->
            value = 1;
#ifndef MUTANT
            live = false;
            MAY_DIE;
#endif
            remember_first();
            tail = value;
            MAY_DIE;
            write_first()
        fi;
        atomic {
            undo_n = 0;
            last[mine] = value
        }
        MAY_DIE;
        owner = FREE;
        i++
    :: else -> break
    od;
dead:
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
