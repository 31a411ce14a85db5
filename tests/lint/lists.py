"""lists.py: what the .def files list, the code does: every option is read, every counter is counted, every record is sent and
handled by the roles of its line and each of its fields read by who gets it; and names of events and close codes stand there alone."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(os.environ.get("top_srcdir", ".")).resolve()
BUILT = Path(os.environ.get("top_builddir", ".")).resolve()
FIELD = r"\b(U8|U32|U64|I64|REF|UUID|HASH|STR)\((\w+)\)"
faults = []
checked = 0


def check(holds, *what):
    global checked
    checked += 1
    if not holds:
        faults.append(" ".join(map(str, what)))


def rows(file, macro):
    text = (SOURCE / "src" / file).read_text()
    found = re.findall(rf"^{macro}\((.*?)\)(?=\n\S|\n*\Z|\t/\*)", text, re.M | re.S)
    check(found, file, "has no", macro)
    return [[a.strip() for a in row.split(",")] for row in found]


def code(*folders):
    """Path below SOURCE: text without comments, of all C there."""
    paths = sorted(p for f in folders for p in (SOURCE / f).rglob("*.[ch]"))
    return {p.relative_to(SOURCE): re.sub(r"/\*.*?\*/", "", p.read_text(), flags=re.S) for p in paths}


def options(text):
    """An option that no one reads has no effect; src/base, which knows all of them from the list, does not count."""
    suffix = {"MS": "_ms", "BYTES": "_bytes", "FILE": "(_text)?"}
    for file in ("base/conf.def", "base/conf_issuer.def"):
        for kind, section, name, *rest in re.findall(r"^CONF_([A-Z]+)\((\w+), (\w+),(.*(?:\n .*)*)",
                                                     (SOURCE / "src" / file).read_text(), re.M):
            member = name if "issuer" in file else f"{section}_{name}"
            read = re.search(rf"(->|\.){member}{suffix.get(kind, '')}\b(?!\s*=[^=])", text)
            check(bool(read) != ("ABSENT" in rest[0]), f"{file}: {section}.{name}", "is read, and ABSENT" if read else "is read nowhere")


def counters(text):
    for macro in ("STAT", "HISTOGRAM"):
        for name, *_ in rows("base/stats.def", macro):
            check(re.search(rf"(\bSTAT_|_count\(\w+, ){name}\b", text), "stats.def:", name, "is counted nowhere")


def reads_of_fields(table, files):
    """Where each field of a record, "record.field", is more than written: the compiler says where it is used."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        marked = re.sub(r"^MSG\((\w+),.*?\)\)$", lambda row: re.sub(
            FIELD, rf'\1(__attribute__((deprecated("{row[1]}.\2"))) \2)', row[0]), table, flags=re.M | re.S)
        (Path(folder) / "msg").mkdir()
        (Path(folder) / "msg/msg.def").write_text(marked)
        cc = [*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-Wdeprecated-declarations",
              *(f"-I{f}" for f in (folder, BUILT / "src", BUILT, SOURCE, SOURCE / "src", SOURCE / "workers"))]
        for path in files:
            # What needs more than these flags uses no records: what is wrong with it is no concern of this.
            said = subprocess.run([*cc, SOURCE / path], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stderr
            lines = (SOURCE / path).read_text().split("\n")
            for at, line, record, field in re.findall(r"^([^:\n]+):(\d+):\d+: warning: .*deprecated: (\w+)\.(\w+)", said, re.M):
                # In a macro it is not in the text there.
                text = " ".join(lines[int(line) - 1:int(line) + 2]) if Path(at) == SOURCE / path else ""
                if not re.search(rf"\b{field}\b", text) or re.search(rf"(->|\.){field}\b(?!(\[\w*\])?\s*=[^=])", text):
                    found.setdefault(f"{record}.{field}", set()).add(path)
    return found


def records(files):
    table = (SOURCE / "src/msg/msg.def").read_text()
    everywhere = "\n".join(files.values())
    reads = reads_of_fields(table, [p for p in files if p.suffix == ".c" and re.search(r"\bmsg_\w+", files[p])])
    for record, senders, receiver, reply, fields in re.findall(
            r'^MSG\((\w+), ([\w |]+), (\w+), (\w+), "[^"]*",(.*?)\)$', table, re.M | re.S):
        senders = set(senders.split(" | "))
        homes = {who: {who} | ({"store"} if who in ("reader", "storage") else set()) for who in senders | {receiver}}
        users = {p.parts[1] for p, text in files.items() if re.search(rf"\b(msg|MSG|msg_(un)?pack)_{record}\b", text)}
        for who, folders in homes.items():
            check(users & folders, f"msg.def: {record}: {who} does not know it")
        check(users <= set().union(*homes.values()), f"msg.def: {record} is used in", *sorted(users), "which are not all on its line")
        for _, field in re.findall(FIELD, fields):
            address = field == "ref" and re.search(rf"\bpost_to_ref\(.*\b{record}\b", everywhere)		# says to whom
            check(address or any(p.parts[1] in homes[receiver] for p in reads.get(f"{record}.{field}", ())),
                  f"msg.def: {record}: {receiver} does not read {field}")


def names(files):
    """Close codes and names of events stand on their lists alone; but that a live message has the name of its event."""
    codes = {code for code, *_ in rows("ws/close.def", "X")}
    messages = {row[1].strip('"') for row in rows("msg/schema.def", "MESSAGE")}
    events = {name for name, *_ in rows("msg/event.def", "EVENT")} - messages
    for path, text in files.items():
        for word in re.findall(r'"(\w+)"', text):
            check(word not in events, path, f'has "{word}", which is EVENT_{word}')
        if path.parts[:2] != ("src", "ws"):
            for number in re.findall(r"(?<![\w.])(?:10[01]\d|4\d{3})(?!\w)", text):
                check(number not in codes - {"1000"}, path, f"has {number}, which is a code of close.def")
    for event in events | messages & {name for name, *_ in rows("msg/event.def", "EVENT")}:
        if ["SERVER"] == [row[1] for row in rows("msg/event.def", "EVENT") if row[0] == event]:
            check(any(f"EVENT_{event}" in text for text in files.values()), f"event.def: nothing stores {event}")


everything = code("src", "workers", "shm")
outside = "\n".join(text for path, text in everything.items() if path.parts[:2] != ("src", "base"))
options(outside)
counters(outside)
records({path: text for path, text in everything.items() if path.parts[0] == "workers" and len(path.parts) > 2})
names({path: text for path, text in everything.items() if path.parts[0] == "workers"})
print(*sorted(set(faults)), f"{checked} facts, {len(set(faults))} faults", sep="\n")
sys.exit(checked < 500 or bool(faults))
