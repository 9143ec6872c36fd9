"""everheap -- a heap that lasts: data in one memory-mapped file, with atomic durable commits.

    import everheap
    with everheap.Database("app.heap") as db:      # commits at the end, rolls back on an exception
        db["users"] = [{"name": "Ann", "age": 41}]
        db["users"][0]["age"] += 1
        print(db["/users/0/name"])                 # any JSON Pointer

    with everheap.Heap("counts.heap") as heap:
        words = heap.map("words", key=str, value="I")   # as C's EVH_MAP_STR(words, uint32_t)
        words["cat"] = words.get("cat", 0) + 1

A collection is found by the name of its root and has the layout that C and C++ give it, so that programs in
these languages share it. A value is a format of the module struct ("I", "q", "d", "16s", "Id": a tuple) or str."""
import collections.abc
import contextlib
import json as _json
import struct as _struct

from . import _everheap
from ._everheap import DURABLE, LIVE, PRIVATE, READ_ONLY, Error

__version__ = _everheap.version
__all__ = ["Database", "Heap", "Node", "Error", "DURABLE", "LIVE", "PRIVATE", "READ_ONLY"]
_MAP, _TREE = 0, 1
_CURSOR_BYTES = 256  # more than the cursors of C have


class _Lasting:
    """What heaps and databases have in common: the statement with, and transactions."""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.is_writable:
                self.commit()
        finally:
            self.close()

    @contextlib.contextmanager
    def transaction(self):
        """A block that is committed at its end, or undone by an exception."""
        try:
            yield self
        except BaseException:
            self.rollback()
            raise
        self.commit()


class Heap(_Lasting, _everheap.Heap):
    """A heap file. Heap(path, mode=DURABLE, must_exist=False, size_max_bytes=0, commit_sequence=0)."""

    def __init__(self, path, mode=DURABLE, **options):
        super().__init__(path, mode, **options)
        self.is_writable = mode == DURABLE

    def text(self, name):
        """The string of a root: C's evh_str."""
        return Text(self, name)

    def vec(self, name, item="q"):
        """The array of a root: C's evh_vec."""
        return Vec(self, name, item)

    def map(self, name, key=str, value="q"):
        """The hash map of a root: C's evh_map. Keys are str, bytes or int."""
        return Map(self, name, key, value)

    def tree(self, name, key=str, value="q"):
        """The ordered map of a root: C's evh_tree. Keys are str, bytes, int (0 and above), "signed" or float."""
        return Tree(self, name, key, value)


class _Item:
    """How an item of a collection is written and read."""

    def __init__(self, form):
        self.is_text = form is str
        self.form = None if self.is_text else _struct.Struct(form)
        self.size = 8 if self.is_text else self.form.size
        self.is_single = not self.is_text and len(self.form.unpack(bytes(self.size))) == 1

    def pack(self, value):
        if self.is_text:
            return value.encode()
        return self.form.pack(value) if self.is_single else self.form.pack(*value)

    def unpack(self, data):
        if self.is_text:
            return data.decode()
        fields = self.form.unpack(data)
        return fields[0] if self.is_single else fields


class Text:
    """A string that lasts. str(text) reads it; set() and append() change it."""

    def __init__(self, heap, name):
        self._heap, self._name = heap, name

    def __str__(self):
        return _everheap.str_get(self._heap, self._name).decode()

    def __bytes__(self):
        return _everheap.str_get(self._heap, self._name)

    def __eq__(self, other):
        return str(self) == other

    def set(self, value):
        _everheap.str_put(self._heap, self._name, value.encode() if isinstance(value, str) else value, False)

    def append(self, value):
        _everheap.str_put(self._heap, self._name, value.encode() if isinstance(value, str) else value, True)


class Vec(collections.abc.MutableSequence):
    """An array that lasts."""

    def __init__(self, heap, name, item):
        self._heap, self._name, self._item = heap, name, _Item(item)

    def __len__(self):
        return _everheap.vec_count(self._heap, self._name)

    def _index(self, index):
        return index + len(self) if index < 0 else index

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._item.unpack(_everheap.vec_get(self._heap, self._name, self._index(index),
                                                   self._item.size, self._item.is_text))

    def __setitem__(self, index, value):
        _everheap.vec_put(self._heap, self._name, self._index(index), self._item.size,
                          self._item.pack(value), False, self._item.is_text)

    def insert(self, index, value):
        index = min(max(self._index(index), 0), len(self))
        _everheap.vec_put(self._heap, self._name, index, self._item.size, self._item.pack(value), True,
                          self._item.is_text)

    def __delitem__(self, index):
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a slice with steps cannot be erased")
            self._erase(first, max(0, last - first))
        else:
            at = self._index(index)
            if not 0 <= at < len(self):
                raise IndexError(index)
            self._erase(at, 1)

    def _erase(self, index, count):
        if count:
            _everheap.vec_erase(self._heap, self._name, index, count, self._item.is_text)

    def clear(self):
        self._erase(0, len(self))

    def to_bytes(self):
        """A copy of all items as they lie in memory, for array, memoryview or numpy.frombuffer."""
        return _everheap.vec_data(self._heap, self._name)


_SIGN = 1 << 63


def _real_key(number):
    bits = _struct.unpack("Q", _struct.pack("d", number))[0]
    return bits ^ (_SIGN * 2 - 1) if bits & _SIGN else bits | _SIGN


def _key_real(number):
    bits = number ^ _SIGN if number & _SIGN else number ^ (_SIGN * 2 - 1)
    return _struct.unpack("d", _struct.pack("Q", bits))[0]


# Key's type: (to what C takes, back).
_KEYS = {str: (str.encode, bytes.decode), bytes: (bytes, bytes), int: (int, int)}
_TREE_KEYS = {**_KEYS, float: (_real_key, _key_real),
              "signed": (lambda n: (n & (_SIGN * 2 - 1)) ^ _SIGN,
                         lambda n: (n ^ _SIGN) - (_SIGN * 2 if (n ^ _SIGN) & _SIGN else 0))}


class Map(collections.abc.MutableMapping):
    """A hash map that lasts."""

    _kind, _keys = _MAP, _KEYS

    def __init__(self, heap, name, key, value):
        self._heap, self._name, self._item = heap, name, _Item(value)
        self._to, self._from = self._keys[key]

    def _find(self, key):
        try:
            return self._to(key)
        except TypeError:
            raise KeyError(key) from None

    def __len__(self):
        return _everheap.dict_count(self._heap, self._kind, self._name)

    def __getitem__(self, key):
        try:
            return self._item.unpack(_everheap.dict_get(self._heap, self._kind, self._name, self._find(key),
                                                        self._item.size, self._item.is_text))
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key, value):
        _everheap.dict_put(self._heap, self._kind, self._name, self._to(key), self._item.size,
                           self._item.pack(value), self._item.is_text)

    def __delitem__(self, key):
        try:
            _everheap.dict_erase(self._heap, self._kind, self._name, self._find(key), self._item.is_text)
        except KeyError:
            raise KeyError(key) from None

    def _pages(self, place):
        while page := _everheap.dict_page(self._heap, self._kind, self._name, place, self._item.size,
                                          self._item.is_text):
            for key, value in page:
                yield self._from(key), self._item.unpack(value)

    def __iter__(self):
        return (key for key, _ in self._pages(bytearray(_CURSOR_BYTES)))

    def items(self):
        """Pairs, one after the other; those that come or go meanwhile may be missed."""
        return self._pages(bytearray(_CURSOR_BYTES))

    def values(self):
        return (value for _, value in self.items())


class Tree(Map):
    """An ordered map that lasts: iteration is in the order of the keys."""

    _kind, _keys = _TREE, _TREE_KEYS

    def range(self, first=None, last=None):
        """Pairs from `first` on, up to and without `last`."""
        place = bytearray(_CURSOR_BYTES)
        if first is not None:
            _everheap.tree_seek(self._heap, self._name, place, self._to(first))
        for key, value in self._pages(place):
            if last is not None and self._to(key) >= self._to(last):
                return
            yield key, value


def _token(key):
    """A key or an index as a piece of a JSON Pointer."""
    if isinstance(key, int):
        if key < 0:
            raise IndexError("an index below 0")
        return f"/{key}"
    return "/" + key.replace("~", "~0").replace("/", "~1")


class Node:
    """An object or array of a database, as a dict or list that is read when it is asked: db["users"][0]. It is a
    path: what is there may change or go."""

    def __init__(self, db, path):
        self._db, self.path = db, path

    def _at(self, key):
        if isinstance(key, int) and key < 0:
            key += len(self)
        return self.path + _token(key)

    def __getitem__(self, key):
        if isinstance(key, int) and self._db.look(self.path)[0] == "array" and not -len(self) <= key < len(self):
            raise IndexError(key)
        return self._db._value(self._at(key))

    def __setitem__(self, key, value):
        self._db.put(self._at(key), value.value() if isinstance(value, Node) else value)

    def __delitem__(self, key):
        self._db.erase(self._at(key))

    def __contains__(self, key):
        if self._db.look(self.path)[0] == "array":
            return key in self.value()
        return isinstance(key, str) and self._db.exists(self._at(key))

    def __len__(self):
        return self._db.look(self.path)[1]

    def __iter__(self):
        if self._db.look(self.path)[0] == "object":
            return iter(self.keys())
        return (self[i] for i in range(len(self)))

    def __eq__(self, other):
        return self.value() == (other.value() if isinstance(other, Node) else other)

    def __repr__(self):
        return f"Node({self.path!r})"

    def keys(self):
        return self._db.keys_at(self.path)

    def items(self):
        return ((key, self[key]) for key in self.keys())

    def values(self):
        return (self[key] for key in self.keys())

    def get(self, key, default=None):
        try:
            return self[key]
        except (KeyError, IndexError):
            return default

    def update(self, members):
        for key, value in members.items():
            self[key] = value

    def append(self, value):
        self._db.push(self.path, value)

    def value(self):
        """A copy, as a dict or list of Python's."""
        return self._db.get_value(self.path)


class Database(_Lasting, _everheap.Database):
    """A JSON document in a heap file. Database(path, mode=DURABLE, must_exist=False, name=None).

    A key that begins with / is a JSON Pointer from the outermost value, "" is that value itself, any other key is
    one of its members. Objects and arrays are given as Node; value() and get_value() copy."""

    def __init__(self, path, mode=DURABLE, **options):
        super().__init__(path, mode, **options)
        self.is_writable = mode == DURABLE

    @staticmethod
    def _path(key):
        return key if isinstance(key, str) and (key == "" or key.startswith("/")) else _token(key)

    def _value(self, path):
        kind, _ = self.look(path)
        return Node(self, path) if kind in ("object", "array") else self.get_value(path)

    def __getitem__(self, key):
        return self._value(self._path(key))

    def __setitem__(self, key, value):
        self.put(self._path(key), value.value() if isinstance(value, Node) else value)

    def __delitem__(self, key):
        self.erase(self._path(key))

    def __contains__(self, key):
        return self.exists(self._path(key))

    def __len__(self):
        return self.look("")[1]

    def __iter__(self):
        return iter(self.keys())

    def keys(self):
        return self.keys_at("")

    def items(self):
        return ((key, self[_token(key)]) for key in self.keys())

    def get(self, key, default=None):
        try:
            return self[key]
        except KeyError:
            return default

    def value(self):
        """A copy of the whole document."""
        return self.get_value("")

    def find(self, query):
        """(path, value) of what a JSONPath query (RFC 9535) finds: db.find("$.users[?@.age > 40]")."""
        return [(path, self._value(path)) for path in self.query(query)]

    def search(self, text, ignore_case=False, limit=0):
        """The paths of keys and strings that contain a text."""
        return self.search_paths(text, ignore_case, limit)

    def patch(self, operations, path=""):
        """Apply a JSON Patch (RFC 6902), all of it or nothing."""
        self.apply(path, _json.dumps(operations), False)

    def merge(self, patch, path=""):
        """Apply a JSON Merge Patch (RFC 7396)."""
        self.apply(path, _json.dumps(patch), True)

    def metrics(self):
        """Counts and sizes of the document."""
        return self.get_value("/$metrics")

    def loads(self, text, path=""):
        """What a JSON text says becomes the value at a path."""
        self.load_text(path, text)

    def dumps(self, path="", indent=0):
        """The value at a path as JSON text."""
        return self.dump_text(path, indent)
