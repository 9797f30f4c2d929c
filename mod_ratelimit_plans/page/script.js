/* Licensed under the Apache License, Version 2.0; see LICENSE. */
"use strict";
(() => {
    const every = 10;
    const sorted = {};
    const pause = document.getElementById("pause");
    const state = document.getElementById("state");
    let paused = false;
    let asking = false;

    const key = cell => cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.v);

    function arrange(table) {
        const order = sorted[table.id];
        if (!order) {
            return;
        }
        const body = table.tBodies[0];
        const rows = Array.from(body.rows, row => [key(row.cells[order.column]), row]);
        rows.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) * (order.up ? 1 : -1));
        body.append(...rows.map(pair => pair[1]));
        Array.from(table.tHead.rows[0].cells, (cell, i) => {
            if (i === order.column) {
                cell.setAttribute("aria-sort", order.up ? "ascending" : "descending");
            } else {
                cell.removeAttribute("aria-sort");
            }
        });
    }

    function prepare(main) {
        for (const table of main.querySelectorAll("table.sortable")) {
            Array.from(table.tHead.rows[0].cells, (cell, column) => {
                if (cell.classList.contains("plain")) {
                    return;
                }
                const button = document.createElement("button");
                button.type = "button";
                button.id = table.id + "-" + column;
                button.textContent = cell.textContent;
                cell.replaceChildren(button);
                button.addEventListener("click", () => {
                    const before = sorted[table.id];
                    const first = !cell.classList.contains("n");
                    const up = before && before.column === column ? !before.up : first;
                    sorted[table.id] = { column, up };
                    arrange(table);
                });
            });
            arrange(table);
        }
    }

    function replace(text) {
        const main = new DOMParser().parseFromString(text, "text/html").getElementById("main");
        const old = document.getElementById("main");
        if (!main) {
            throw new Error("no page");
        }
        const focus = document.activeElement && old.contains(document.activeElement) ? document.activeElement : null;
        const wide = Array.from(old.querySelectorAll(".wide"), box => [box.getAttribute("aria-labelledby"), box.scrollLeft]);
        const next = document.adoptNode(main);
        prepare(next);
        old.replaceWith(next);
        for (const [label, left] of wide) {
            const box = next.querySelector(".wide[aria-labelledby='" + label + "']");
            if (box) {
                box.scrollLeft = left;
                if (focus && focus.getAttribute("aria-labelledby") === label) {
                    box.focus({ preventScroll: true });
                }
            }
        }
        if (focus && focus.id) {
            const again = document.getElementById(focus.id);
            if (again) {
                again.focus({ preventScroll: true });
            }
        }
    }

    function say(text) {
        if (state.textContent !== text) {
            state.textContent = text;
        }
    }

    async function refresh() {
        if (paused || asking || document.hidden) {
            return;
        }
        asking = true;
        try {
            const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
            if (!answer.ok) {
                throw new Error(String(answer.status));
            }
            const text = await answer.text();
            if (!paused) {
                replace(text);
                say("Refreshed every " + every + " s");
            }
        } catch (error) {
            say("The server does not answer; these figures are old");
        }
        asking = false;
    }

    pause.addEventListener("click", () => {
        paused = !paused;
        pause.textContent = paused ? "Go on" : "Pause";
        say(paused ? "Paused" : "Refreshed every " + every + " s");
        refresh();
    });
    prepare(document.getElementById("main"));
    document.getElementById("live").hidden = false;
    say("Refreshed every " + every + " s");
    setInterval(refresh, every * 1000);
    document.addEventListener("visibilitychange", refresh);
})();
