"""Look at heaps of everheap in gdb, in a live process or a core file:  (gdb) source tools/gdb.py

    evh-heaps                 the heaps that the process has open
    evh-roots [HEAP]          the roots of one
    evh-show OFFSET [HEAP]    what is at a ref: a collection, a document, or bytes
    evh-ref OFFSET [HEAP]     its address

A ref (evh_ref, evh_str, ...) prints as its offset and address. HEAP is an expression, such as a
variable; left out, it is the only heap that is open. Nothing is called in the process: all is read
from its memory, with what docs/format.md says, so that a core file is as good. The library needs
symbols for evh-heaps and roots (it is built with -g)."""
import struct

import gdb

LIMIT = 50  # items of a collection, values of a container
DEPTH = 6
KINDS = {1: "str", 2: "symbols", 3: "vec", 4: "map", 5: "tree", 6: "queue", 7: "bitset"}
JSON_MAGIC = 0x6E6F736A52485645


class Heap:
    """An open heap: its base and end, and reading inside it."""

    def __init__(self, value):
        pointer = value.cast(gdb.lookup_type("struct evh_heap").pointer())
        self.handle = pointer.dereference()
        view = self.handle["view"]
        self.base, self.end = int(view["base"]), int(view["end_bytes"])

    def read(self, offset, size):
        if offset <= 0 or size < 0 or offset + size > self.end:
            raise gdb.GdbError(f"offset {offset:#x} + {size} is outside the heap")
        return bytes(gdb.selected_inferior().read_memory(self.base + offset, size))

    def unpack(self, layout, offset):
        return struct.unpack("<" + layout, self.read(offset, struct.calcsize("<" + layout)))


def open_heaps():
    slots = gdb.lookup_static_symbol("table_slots")
    if slots is None:
        raise gdb.GdbError("no symbols of the library: build it with -g")
    slots = slots.value()
    end = slots.type.range()[1] + 1
    for i in range(end):
        heap = slots[i]["heap"]
        if int(heap):
            yield heap


def find_heap(text):
    if text:
        return Heap(gdb.parse_and_eval(text))
    heaps = list(open_heaps())
    if len(heaps) != 1:
        raise gdb.GdbError(f"{len(heaps)} heaps are open: name one")
    return Heap(heaps[0])


def split(argument):
    words = gdb.string_to_argv(argument)
    offset = int(gdb.parse_and_eval(words[0])) if words else 0
    return offset, find_heap(" ".join(words[1:]))


# ---- roots ------------------------------------------------------------------------------------------


def roots(heap):
    catalog = int(heap.handle["state"]["catalog"])
    if not catalog:
        return
    for chunk, offset in enumerate(heap.unpack("26Q", catalog + 72)):
        if not offset:
            return
        for i in range(4 << chunk):
            key, tag, block, size = heap.unpack("4Q", offset + 96 * i)
            name = heap.read(offset + 96 * i + 32, 64).split(b"\0")[0].decode("utf-8", "replace")
            if key > 1:
                yield name or f"#{tag}", block, size


# ---- collections ------------------------------------------------------------------------------------


def text_of(heap, offset):
    size = heap.unpack("II", offset)[1] if offset else 0
    return heap.read(offset + 8, min(size, 200)).decode("utf-8", "replace") if size else ""


def value_text(heap, data):
    if len(data) in (1, 2, 4, 8):
        number = int.from_bytes(data, "little")
        return str(number) if number < 1 << 32 else f"{number} ({number:#x})"
    return data[:32].hex() + ("..." if len(data) > 32 else "")


def show_row(heap, offset, kind):
    item, first, count, capacity = heap.unpack("IQQQ", offset + 4)
    print(f"{KINDS[kind]} of {count} items of {item} bytes")
    for i in range(min(count, LIMIT)):
        place = first + i
        if kind == 6 and place >= capacity:
            place -= capacity
        print(f"  [{i}] {value_text(heap, heap.read(offset + 32 + place * item, item))}")


def hash_items(heap, table):
    """The items of a hash table, as bytes."""
    _, root, item, depth = heap.unpack("QQIB", table)
    seen = set()
    for i in range(1 << depth):
        word = root if depth == 0 else heap.unpack("Q", root + 8 * i)[0]
        if not word or word in seen:
            continue
        seen.add(word)
        part, bits = word & ~15, word & 15
        group = 8 + 7 * item
        whole = (group + 63) // 64 * 64
        group = whole if whole - group <= group // 8 else group
        for g in range(1 << bits):
            at = part + 64 + g * group
            for k, control in enumerate(heap.read(at, 7)):
                if control < 128:
                    yield heap.read(at + 8 + k * item, item)


def show_map(heap, offset):
    key_kind, value = heap.unpack("II", offset + 4)
    print(f"map of {heap.unpack('Q', offset + 16)[0]} items")
    for i, item in enumerate(hash_items(heap, offset + 16)):
        if i == LIMIT:
            print("  ...")
            break
        if key_kind == 3:
            key, data = repr(text_of(heap, struct.unpack("<Q", item[8:16])[0])), item[16:16 + value]
        else:
            key, data = str(struct.unpack("<Q", item[:8])[0]), item[8:8 + value]
        print(f"  {key}: {value_text(heap, data)}")


def show_tree(heap, offset):
    key_kind, value, capacity, levels = heap.unpack("IIHB", offset + 4)
    count, node = heap.unpack("QQ", offset + 16)
    print(f"tree of {count} items")
    shown = 0

    def walk(node, level):
        nonlocal shown
        filled = heap.unpack("H", node + 4)[0]
        room = capacity if level == 0 else (39 if key_kind == 3 else 63)
        behind = node + 16 + 8 * room * (2 if key_kind == 3 else 1)
        for i in range(filled):
            if shown >= LIMIT:
                return
            if level:
                walk(heap.unpack("Q", behind + 8 * i)[0], level - 1)
                continue
            key = heap.unpack("Q", node + 16 + 8 * i)[0]
            if key_kind == 3:
                key = repr(text_of(heap, heap.unpack("Q", node + 16 + 8 * (room + i))[0]))
            data = heap.read(behind + (value + 7) // 8 * 8 * i, value) if value else b""
            print(f"  {key}: {value_text(heap, data)}")
            shown += 1

    if node:
        walk(node, min(levels, 16))


# ---- documents --------------------------------------------------------------------------------------


def json_text(heap, flags, offset):
    size = heap.unpack("Q", offset - 24)[0] if flags & 1 else heap.unpack("H", offset - 6)[0]
    return heap.read(offset, min(size, 200)).decode("utf-8", "replace")


def json_value(heap, root, slot, depth, indent):
    kind, flags, _, _, payload = slot
    if kind == 2:
        return "true" if payload else "false"
    if kind in (3, 4):
        return str(payload - (1 << 64) if kind == 3 and payload >> 63 else payload)
    if kind == 5:
        return repr(struct.unpack("<d", struct.pack("<Q", payload))[0])
    if kind == 6:
        return heap.read(payload + 8, min(heap.unpack("Q", payload)[0], 200)).decode("ascii", "replace")
    if kind == 7:
        return repr(json_text(heap, flags, payload))
    if kind == 8:
        return f"<{heap.unpack('Q', payload)[0]} bytes>"
    if kind in (9, 10):
        return json_container(heap, root, payload, depth, indent)
    return {1: "null", 11: "<ref>"}.get(kind, f"<type {kind}>")


def symbol_text(heap, symbols, number):
    index = number - 1 + 64
    chunk = index.bit_length() - 7
    table = heap.unpack("Q", symbols + 64 + 8 * chunk)[0]
    return text_of(heap, heap.unpack("Q", table + 16 * (index - (64 << chunk)))[0])


def json_container(heap, root, offset, depth, indent):
    _, kind, form, _, count, capacity, body = heap.unpack("IBBHIIQ", offset)
    if form != 0 or (depth == 0 and count):
        return f"<{'object' if kind == 10 else 'array'} of {count}>"
    keys = body
    slots = body
    if kind == 10:
        slots += (4 * capacity + 15) // 16 * 16
        if capacity > 16:
            slots += (2 << (2 * capacity - 1).bit_length() - 1) << (capacity > 255)
    lines = []
    for i in range(min(count, LIMIT)):
        text = json_value(heap, root, heap.unpack("BBHIQ", slots + 16 * i), depth - 1, indent + "  ")
        if kind == 10:
            key = symbol_text(heap, root["keys"], heap.unpack("I", keys + 4 * i)[0])
            text = f"{key!r}: {text}"
        lines.append(f"{indent}  {text}")
    if count > LIMIT:
        lines.append(f"{indent}  ... {count - LIMIT} more")
    left, right = ("{", "}") if kind == 10 else ("[", "]")
    return left + ("\n" + ",\n".join(lines) + "\n" + indent if lines else "") + right


def show_document(heap, offset):
    _, _, holder, keys = heap.unpack("QIIQ", offset)
    directory = heap.unpack("Q", offset + 32)[0]
    slab = heap.unpack("Q", directory + 8 * (holder // 2048))[0]
    cell = slab + 32 * (holder % 2048)
    body = heap.unpack("Q", cell + 16)[0]
    root = {"keys": keys}
    print("document " + json_value(heap, root, heap.unpack("BBHIQ", body), DEPTH, ""))


def show(heap, offset):
    word = heap.unpack("I", offset)[0]
    if heap.unpack("Q", offset)[0] in (JSON_MAGIC, JSON_MAGIC ^ offset):
        show_document(heap, offset)
        return
    kind = word >> 16 & 255 if word & 0xFFFF == 0x4365 else 0
    if kind == 1:
        print(f"str {text_of(heap, offset)!r}")
    elif kind in (3, 6):
        show_row(heap, offset, kind)
    elif kind == 4:
        show_map(heap, offset)
    elif kind == 5:
        show_tree(heap, offset)
    elif kind in KINDS:
        print(KINDS[kind])
    else:
        data = heap.read(offset, min(64, heap.end - offset))
        for i in range(0, len(data), 16):
            print(f"  +{i:02x}  {data[i:i + 16].hex(' ')}")


# ---- commands ---------------------------------------------------------------------------------------


class Heaps(gdb.Command):
    """List the heaps of everheap that the process has open."""

    def __init__(self):
        super().__init__("evh-heaps", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        for value in open_heaps():
            heap = Heap(value)
            region = heap.handle["region"]
            path = region["path"].string() if int(region) else "memory"
            print(f"{int(value):#x}  {path}  at {heap.base:#x}, {heap.end} bytes")


class Roots(gdb.Command):
    """List the roots of a heap: evh-roots [HEAP]."""

    def __init__(self):
        super().__init__("evh-roots", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        heap = find_heap(argument)
        for name, block, size in roots(heap):
            print(f"{name:<32} {block:#12x}  {size} bytes")


class Show(gdb.Command):
    """Show what is at an offset of a heap: evh-show OFFSET [HEAP]."""

    def __init__(self):
        super().__init__("evh-show", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        offset, heap = split(argument)
        show(heap, offset)


class Ref(gdb.Command):
    """Print the address of a ref: evh-ref OFFSET [HEAP]."""

    def __init__(self):
        super().__init__("evh-ref", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        offset, heap = split(argument)
        print(f"{heap.base + offset:#x}")


class RefPrinter:
    """A ref, or the handle of a collection: all are structs of one offset."""

    def __init__(self, value):
        self.offset = int(value[value.type.strip_typedefs().fields()[0].name])

    def to_string(self):
        if self.offset == 0:
            return "null"
        try:
            return f"{self.offset:#x} (at {find_heap('').base + self.offset:#x})"
        except gdb.error:
            return f"{self.offset:#x}"


def look_up(value):
    name = str(value.type.strip_typedefs().tag or value.type.name)
    if name in ("evh_ref", "evh_str", "evh_vec", "evh_map", "evh_tree", "evh_queue", "evh_bitset", "evh_symbols"):
        return RefPrinter(value)
    return None


for command in (Heaps, Roots, Show, Ref):
    command()
gdb.pretty_printers.append(look_up)
