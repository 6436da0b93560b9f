/* What pairs wait in for their spill, as long as their keys are texts, bytes or ints: sums or lists,
   by key (see gather.py, which does without this where it was not compiled).

   Where keys are many, a dict waits for memory most of the time: one after another come the index,
   the entry, the key and the value of each pair, and none is in the cache. So pairs are pulled from
   their stream a batch at a time. The place of each is fetched while the mapper makes the next pair,
   then the entries of all of them, and only then is the batch added. An entry has all of a short
   key in it, beside the object, and a sum as a C integer: to add to it takes a line of the cache, or
   two, and nothing is allocated.

   Entries stand one after the other, as their keys came. Places, in a table of open addressing with
   linear probing that is at most two thirds full, say which entry is meant: the upper half is part
   of its hash, the lower half its number from 1 up, and 0 is a place that is free.
   Keys are hashed by what wyhash rests on (Wang Yi, 2019), a product of 128 bits that is folded to
   64: Python's own hash of a text takes three times as long.

   Keys are exact str, exact bytes and exact int of 64 bits, of which none equals one of another
   type; sums are of exact ints, and have 64 bits. The first pair that is anything else is handed
   back, and the caller goes on with a dict, which knows all of Python's rules.

   No code of the user's runs while the table is worked on: it runs as a stream makes a pair. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)0)
#endif

enum { BATCH = 64, FIRST_PLACES = 1024 };

typedef enum { SUMS, COUNTS, LISTS } Kind;

/* What tells a key from others: up to 15 bytes of it, and in the uppermost byte what kind of key it
   is and how many there are. Of a longer key its hash and `LONG`: such keys may be alike and differ. */
typedef struct {
    uint64_t one, other;
} Name;

typedef struct {
    Name name;
    PyObject *key;
    union {
        long long sum;   /* in a batch what is added */
        PyObject *list;  /* of LISTS */
        PyObject *value; /* of LISTS, in a batch */
    };
} Entry;

typedef struct {
    PyObject_HEAD
    Kind kind;
    uint64_t seed;
    uint64_t *places;
    size_t mask;    /* how many places there are, less one */
    Entry *entries; /* has room for two thirds as many */
    size_t used;
    Py_ssize_t pulled;
} Table;

/* ---- keys */

enum { TEXT = 0x00, BYTES = 0x50, INT = 0x60, LONG = 0xF0, SHORT = 15 }; /* TEXT and its kind: to 0x40 */

#define UPPERMOST(byte) ((uint64_t)(byte) << 56)

static inline uint64_t
read_8(const char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

static inline uint64_t
read_4(const char *data)
{
    uint32_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

/* Both factors have something in them that nobody outside can know: a factor of zero makes a product
   of zero, whatever the other is. */
static inline uint64_t
mixed(uint64_t seed, uint64_t one, uint64_t other)
{
    one ^= seed;
    other ^= ~seed;
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t upper = (one >> 32) * (uint32_t)other, lower = (uint64_t)(uint32_t)one * (other >> 32);
    uint64_t carried = ((uint64_t)(uint32_t)one * (uint32_t)other >> 32) + (uint32_t)lower + upper;
    return one * other ^ ((one >> 32) * (other >> 32) + (lower >> 32) + (carried >> 32));
#endif
}

static inline uint64_t
hash_of(uint64_t seed, const Name *name)
{
    return mixed(seed, name->one, name->other);
}

/* What is read twice does no harm. */
static inline Name
name_of(uint64_t seed, int kind, const char *data, size_t size)
{
    Name name = {0, UPPERMOST((size_t)kind | size)};
    if (size > SHORT) {
        name = (Name){size, UPPERMOST(LONG)};
        for (; size > 16; size -= 16, data += 16) {
            name.one = mixed(seed, read_8(data) ^ name.one, read_8(data + 8));
        }
        name.one = mixed(seed, read_8(data + size - 16) ^ name.one, read_8(data + size - 8));
    }
    else if (size >= 8) {
        uint64_t end = read_8(data + size - 8);
        name.one = read_8(data);
        name.other |= PY_BIG_ENDIAN ? end & ~UPPERMOST(0xFF) : end >> 8;
    }
    else if (size >= 4) {
        name.one = read_4(data) << 32 | read_4(data + size - 4);
    }
    else if (size > 0) {
        const unsigned char *bytes = (const unsigned char *)data;
        name.one = (uint64_t)bytes[0] << 16 | (uint64_t)bytes[size >> 1] << 8 | bytes[size - 1];
    }
    return name;
}

static inline size_t
text_bytes(PyObject *text)
{
    return (size_t)PyUnicode_GET_LENGTH(text) * (size_t)PyUnicode_KIND(text);
}

/* Fill in an entry's key, borrowed, and its name: 0 if it is not one for the table. */
static inline int
read_key(Table *self, PyObject *key, Entry *entry)
{
    entry->key = key;
    if (PyUnicode_CheckExact(key)) {
        entry->name = name_of(
            self->seed, TEXT | PyUnicode_KIND(key) << 4, PyUnicode_DATA(key), text_bytes(key));
        return 1;
    }
    if (PyLong_CheckExact(key)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(key, &overflow);
        entry->name = (Name){(uint64_t)number, UPPERMOST(INT)};
        return !overflow;
    }
    if (PyBytes_CheckExact(key)) {
        entry->name = name_of(
            self->seed, BYTES, PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
        return 1;
    }
    return 0;
}

static int
same_long_key(PyObject *one, PyObject *other)
{
    if (Py_TYPE(one) != Py_TYPE(other)) {
        return 0;
    }
    if (PyUnicode_CheckExact(one)) {
        return PyUnicode_KIND(one) == PyUnicode_KIND(other) && text_bytes(one) == text_bytes(other)
            && memcmp(PyUnicode_DATA(one), PyUnicode_DATA(other), text_bytes(one)) == 0;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(one);
    return size == (size_t)PyBytes_GET_SIZE(other)
        && memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), size) == 0;
}

static inline int
same_key(const Entry *one, const Entry *other)
{
    return one->name.one == other->name.one && one->name.other == other->name.other
        && (one->name.other != UPPERMOST(LONG) || one->key == other->key
            || same_long_key(one->key, other->key));
}

/* ---- the table */

#define LOWER_HALF 0xFFFFFFFFu

static inline size_t
room(size_t places)
{
    return places / 3 * 2;
}

static inline uint64_t
place_for(uint64_t hash, size_t number)
{
    return (hash & ~(uint64_t)LOWER_HALF) | number;
}

static int
grow(Table *self, size_t size)
{
    uint64_t *places = room(size) < LOWER_HALF ? PyMem_Calloc(size, sizeof(uint64_t)) : NULL;
    Entry *entries = places ? PyMem_Realloc(self->entries, room(size) * sizeof(Entry)) : NULL;
    if (entries == NULL) {
        PyMem_Free(places);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t number = 1; number <= self->used; number++) {
        uint64_t hash = hash_of(self->seed, &entries[number - 1].name);
        size_t at = hash & (size - 1);
        while (places[at]) {
            at = (at + 1) & (size - 1);
        }
        places[at] = place_for(hash, number);
    }
    PyMem_Free(self->places);
    self->places = places;
    self->mask = size - 1;
    self->entries = entries;
    return 0;
}

/* The first place, from `at` on, that is free or has the same upper half of a hash. */
static inline uint64_t *
likely_place(Table *self, uint64_t hash, size_t at)
{
    for (;; at = (at + 1) & self->mask) {
        if (!self->places[at] || (self->places[at] ^ hash) <= LOWER_HALF) {
            return &self->places[at];
        }
    }
}

/* The entry that is meant by a place, which is not free. */
static inline Entry *
entry_at(Table *self, const uint64_t *place)
{
    return &self->entries[(*place & LOWER_HALF) - 1];
}

/* The place of a key, or the free one where it is to be. */
static inline uint64_t *
place_of(Table *self, const Entry *sought, uint64_t hash)
{
    uint64_t *place = likely_place(self, hash, hash & self->mask);
    while (*place && !same_key(entry_at(self, place), sought)) {
        place = likely_place(self, hash, (size_t)(place - self->places + 1) & self->mask);
    }
    return place;
}

/* ---- batches: their entries own what they have, until it is added */

typedef struct {
    int count;
    Entry entries[BATCH];
    uint64_t hashes[BATCH];
} Batch;

/* Let go of a batch from an entry on. */
static void
drop(Table *self, Batch *batch, int at)
{
    for (; at < batch->count; at++) {
        Py_DECREF(batch->entries[at].key);
        if (self->kind == LISTS) {
            Py_DECREF(batch->entries[at].value);
        }
    }
}

/* Fill an entry from a pair: 0 if it is not one for the table. */
static inline int
read_pair(Table *self, PyObject *pair, Entry *entry)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2
        || !read_key(self, PyTuple_GET_ITEM(pair, 0), entry)) {
        return 0;
    }
    PyObject *value = PyTuple_GET_ITEM(pair, 1);
    if (self->kind == LISTS) {
        entry->value = Py_NewRef(value);
    }
    else if (self->kind == COUNTS) {
        entry->sum = 1;
    }
    else {
        int overflow = 0;
        if (!PyLong_CheckExact(value)) {
            return 0;
        }
        entry->sum = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            return 0;
        }
    }
    Py_INCREF(entry->key);
    return 1;
}

/* Pull up to `most` pairs: -1 with an exception. There are fewer where the stream has ended, or where
   `*unfit` is a pair that is not for the table. */
static int
pull_batch(Table *self, PyObject *stream, Py_ssize_t most, Batch *batch, PyObject **unfit)
{
    iternextfunc next = Py_TYPE(stream)->tp_iternext;
    int at = 0;
    for (; at < BATCH && at < most; batch->count = ++at) {
        PyObject *pair = next(stream);
        if (pair == NULL) {
            if (PyErr_Occurred()) {
                if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
                    drop(self, batch, 0);
                    return -1;
                }
                PyErr_Clear();
            }
            break;
        }
        self->pulled++;
        if (!read_pair(self, pair, &batch->entries[at])) {
            *unfit = pair;
            break;
        }
        batch->hashes[at] = hash_of(self->seed, &batch->entries[at].name);
        PREFETCH(&self->places[batch->hashes[at] & self->mask]);
        Py_DECREF(pair);
    }
    return 0;
}

/* Add to an entry of the table: 0 if that would be too large a sum, -1 with an exception, and then
   `added` still owns what it has. */
static inline int
add_to(Table *self, Entry *entry, Entry *added)
{
    if (self->kind == LISTS) {
        if (PyList_Append(entry->list, added->value) < 0) {
            return -1;
        }
        Py_DECREF(added->value);
    }
    else {
        long long sum = (long long)((unsigned long long)entry->sum + (unsigned long long)added->sum);
        if ((added->sum < 0) != (sum < entry->sum)) {
            return 0;
        }
        entry->sum = sum;
    }
    Py_DECREF(added->key);
    return 1;
}

/* Make an entry of the table: -1 with an exception, and then `added` still owns what it has. */
static inline int
insert(Table *self, uint64_t *place, Entry *added, uint64_t hash)
{
    if (self->kind == LISTS) {
        PyObject *list = PyList_New(1);
        if (list == NULL) {
            return -1;
        }
        PyList_SET_ITEM(list, 0, added->value);
        added->list = list;
    }
    self->entries[self->used++] = *added;
    *place = place_for(hash, self->used);
    return 1;
}

/* Append a batch to a list, from an entry on, as the pairs that they were. */
static int
hand_back(Batch *batch, int at, PyObject *pairs)
{
    for (; at < batch->count; at++) {
        Entry *entry = &batch->entries[at];
        PyObject *pair = Py_BuildValue("(OL)", entry->key, entry->sum);
        int failed = pair == NULL || PyList_Append(pairs, pair) < 0;
        Py_XDECREF(pair);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static void
fetch(Table *self, Batch *batch)
{
    Entry *found[BATCH];
    int at, likely = 0;
    for (at = 0; at < batch->count; at++) {
        uint64_t hash = batch->hashes[at], *place = likely_place(self, hash, hash & self->mask);
        if (*place) {
            found[likely] = entry_at(self, place);
            PREFETCH(found[likely++]);
        }
    }
    for (at = 0; at < likely && self->kind == LISTS; at++) {
        PREFETCH((char *)found[at]->list);
    }
}

/* Add a batch. From the first sum that is too large for the table on, what is left of it is appended
   to `unfit` as pairs. */
static int
add_batch(Table *self, Batch *batch, PyObject *unfit)
{
    int at = 0, added = 1;
    size_t most = self->used + (size_t)batch->count;
    if (most > room(self->mask + 1) && grow(self, (self->mask + 1) * 2) < 0) {
        drop(self, batch, 0);
        return -1;
    }
    fetch(self, batch);
    for (; at < batch->count && added > 0; at += added > 0) {
        Entry *entry = &batch->entries[at];
        uint64_t hash = batch->hashes[at], *place = place_of(self, entry, hash);
        added = *place ? add_to(self, entry_at(self, place), entry)
                       : insert(self, place, entry, hash);
    }
    if (added == 0 && hand_back(batch, at, unfit) < 0) {
        added = -1;
    }
    drop(self, batch, at);
    return added < 0 ? -1 : 0;
}

/* ---- what Python sees */

PyDoc_STRVAR(pull_doc,
"pull($self, stream, most, /)\n--\n\n"
"Take up to ``most`` pairs from an iterator. Returns how many were pulled, and a list of those that\n"
"were, but are not for the table: they are the last, and nothing may be pulled after them.");

static PyObject *
table_pull(Table *self, PyObject *args)
{
    PyObject *stream, *unfit;
    Py_ssize_t most, before = self->pulled;
    Batch batch;
    if (!PyArg_ParseTuple(args, "On:pull", &stream, &most)) {
        return NULL;
    }
    if (!PyIter_Check(stream)) {
        return PyErr_Format(PyExc_TypeError, "%.100s is no iterator", Py_TYPE(stream)->tp_name);
    }
    unfit = PyList_New(0);
    if (unfit == NULL) {
        return NULL;
    }
    do {
        PyObject *odd = NULL;
        batch.count = 0;
        if (pull_batch(self, stream, most - (self->pulled - before), &batch, &odd) < 0
            || add_batch(self, &batch, unfit) < 0
            || (odd != NULL && PyList_Append(unfit, odd) < 0)) {
            Py_XDECREF(odd);
            Py_DECREF(unfit);
            return NULL;
        }
        Py_XDECREF(odd);
    } while (batch.count == BATCH && PyList_GET_SIZE(unfit) == 0);
    return Py_BuildValue("(nN)", self->pulled - before, unfit);
}

static PyObject *
value_of(Table *self, Entry *entry)
{
    return self->kind == LISTS ? Py_NewRef(entry->list) : PyLong_FromLongLong(entry->sum);
}

PyDoc_STRVAR(columns_doc,
"columns($self, /)\n--\n\n"
"A list of the keys, in the order in which they came, and one of their sums or lists.");

static PyObject *
table_columns(Table *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *keys = PyList_New((Py_ssize_t)self->used);
    PyObject *values = PyList_New((Py_ssize_t)self->used);
    for (size_t at = 0; at < self->used && keys != NULL && values != NULL; at++) {
        Entry *entry = &self->entries[at];
        PyObject *value = value_of(self, entry);
        if (value == NULL) {
            Py_CLEAR(values);
            break;
        }
        PyList_SET_ITEM(keys, (Py_ssize_t)at, Py_NewRef(entry->key));
        PyList_SET_ITEM(values, (Py_ssize_t)at, value);
    }
    if (keys == NULL || values == NULL) {
        Py_XDECREF(keys);
        Py_XDECREF(values);
        return NULL;
    }
    return Py_BuildValue("(NN)", keys, values);
}

PyDoc_STRVAR(values_doc,
"values($self, keys, /)\n--\n\n"
"A list of the sums or lists of some keys, which are a list. Raises KeyError for what is none.");

/* Add the values of some keys to a list from `start` on: -1 with an exception. */
static int
look_up(Table *self, PyObject **keys, Batch *batch, PyObject *values, Py_ssize_t start)
{
    for (int at = 0; at < batch->count; at++) {
        if (!read_key(self, keys[at], &batch->entries[at])) {
            PyErr_SetObject(PyExc_KeyError, keys[at]);
            return -1;
        }
        batch->hashes[at] = hash_of(self->seed, &batch->entries[at].name);
        PREFETCH(&self->places[batch->hashes[at] & self->mask]);
    }
    fetch(self, batch);
    for (int at = 0; at < batch->count; at++) {
        uint64_t *place = place_of(self, &batch->entries[at], batch->hashes[at]);
        PyObject *value = *place ? value_of(self, entry_at(self, place)) : NULL;
        if (value == NULL) {
            if (!*place) {
                PyErr_SetObject(PyExc_KeyError, keys[at]);
            }
            return -1;
        }
        PyList_SET_ITEM(values, start + at, value);
    }
    return 0;
}

static PyObject *
table_values(Table *self, PyObject *keys)
{
    Batch batch;
    if (!PyList_CheckExact(keys)) {
        return PyErr_Format(PyExc_TypeError, "%.100s is no list", Py_TYPE(keys)->tp_name);
    }
    Py_ssize_t size = PyList_GET_SIZE(keys);
    PyObject *values = PyList_New(size);
    for (Py_ssize_t at = 0; values != NULL && at < size; at += batch.count) {
        batch.count = size - at < BATCH ? (int)(size - at) : BATCH;
        if (look_up(self, &PyList_GET_ITEM(keys, at), &batch, values, at) < 0) {
            Py_CLEAR(values);
        }
    }
    return values;
}

static Py_ssize_t
table_length(Table *self)
{
    return (Py_ssize_t)self->used;
}

static PyObject *
table_get_pulled(Table *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->pulled);
}

static int
set_up(Table *self, const char *kind)
{
    PyObject *text;
    if (strcmp(kind, "sums") == 0) {
        self->kind = SUMS;
    }
    else if (strcmp(kind, "counts") == 0) {
        self->kind = COUNTS;
    }
    else if (strcmp(kind, "lists") == 0) {
        self->kind = LISTS;
    }
    else {
        PyErr_Format(PyExc_ValueError, "a table has sums, counts or lists, and not %.100s", kind);
        return -1;
    }
    /* Python's own hash has a seed, which PYTHONHASHSEED may set. */
    text = PyUnicode_FromString("table");
    if (text == NULL) {
        return -1;
    }
    self->seed = (uint64_t)PyObject_Hash(text);
    Py_DECREF(text);
    return grow(self, FIRST_PLACES);
}

static PyObject *
table_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    const char *kind;
    Table *self;
    if (!PyArg_ParseTuple(args, "s:Table", &kind)) {
        return NULL;
    }
    self = (Table *)type->tp_alloc(type, 0);
    if (self != NULL && set_up(self, kind) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
table_dealloc(Table *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t at = 0; at < self->used; at++) {
        Py_DECREF(self->entries[at].key);
        if (self->kind == LISTS) {
            Py_DECREF(self->entries[at].list);
        }
    }
    PyMem_Free(self->places);
    PyMem_Free(self->entries);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(table_doc,
"Table(kind, /)\n--\n\n"
"By key the sums of ints (``kind`` is \"sums\"), how many values there are (\"counts\"), or lists of\n"
"them (\"lists\"). Raises ValueError for another kind.");

static PyMethodDef table_methods[] = {
    {"pull", (PyCFunction)table_pull, METH_VARARGS, pull_doc},
    {"columns", (PyCFunction)table_columns, METH_NOARGS, columns_doc},
    {"values", (PyCFunction)table_values, METH_O, values_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef table_attributes[] = {
    {"pulled", (getter)table_get_pulled, NULL, "How many pairs were pulled, ever.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_doc, (void *)table_doc},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {Py_tp_getset, table_attributes},
    {Py_sq_length, table_length},
    {0, NULL},
};

static PyType_Spec table_spec = {
    .name = "pytxmr.records._gather.Table",
    .basicsize = sizeof(Table),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};

static int
add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &table_spec, NULL);
    int failed = type == NULL || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, add_type},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_gather",
    .m_doc = "A table of what pairs were gathered to, by key.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__gather(void)
{
    return PyModuleDef_Init(&module);
}
