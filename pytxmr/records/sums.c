/* Sums of ints by text key, for the folds `sum` and `count` (see gather.py).

   Where keys are many, a dict waits for memory most of the time: one after another come the index,
   the entry, the key and the sum of each pair, and none is in the cache. So pairs are pulled from
   their stream a batch at a time. The slot of each is fetched while the mapper makes the next pair,
   the keys in those slots while the batch is still being looked at, and only then sums are added.
   A slot has its sum in place, as a C integer: nothing is allocated for a pair.

   The table is open addressing with linear probing, at most two thirds full, sizes powers of two.
   Keys are hashed by what wyhash rests on (Wang Yi, 2019), a product of 128 bits that is folded to
   64: Python's own hash takes three times as long.
   It knows exact str and exact int only, and sums of 64 bits. The first pair that is anything else
   is handed back, and the caller goes on with a dict, which knows all of Python's rules.

   No code of the user's runs while the table is worked on: it runs as a stream makes a pair. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)0)
#endif

enum { BATCH = 64, FIRST_SLOTS = 1024, CACHE_LINE = 64 };

typedef struct {
    PyObject *key; /* NULL: the slot is free */
    uint64_t hash;
    long long value; /* in a slot the sum, in a batch what is added */
} Entry;

typedef struct {
    PyObject_HEAD
    uint64_t seed;
    Entry *slots;
    size_t mask; /* how many slots there are, less one */
    Py_ssize_t used;
    Py_ssize_t pulled;
    int counting;
} Sums;

/* ---- hashes */

#ifdef __SIZEOF_INT128__

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

static inline uint64_t
folded_product(uint64_t one, uint64_t other)
{
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Both factors have something in them that nobody outside can know: a factor of zero makes a product
   of zero, whatever the other is. */
static inline uint64_t
hash_of(uint64_t seed, PyObject *text)
{
    const char *data = PyUnicode_DATA(text);
    size_t size = (size_t)PyUnicode_GET_LENGTH(text) * (size_t)PyUnicode_KIND(text);
    uint64_t hash = ~seed ^ size, one = 0, other = 0;
    for (; size > 16; size -= 16, data += 16) {
        hash = folded_product(read_8(data) ^ seed, read_8(data + 8) ^ hash);
    }
    if (size >= 8) { /* what is read twice does no harm */
        one = read_8(data);
        other = read_8(data + size - 8);
    }
    else if (size >= 4) {
        one = read_4(data);
        other = read_4(data + size - 4);
    }
    else if (size > 0) {
        one = (unsigned char)data[0];
        other = (uint64_t)(unsigned char)data[size >> 1] << 8 | (unsigned char)data[size - 1];
    }
    return folded_product(one ^ seed, other ^ hash);
}

#else

static inline uint64_t
hash_of(uint64_t Py_UNUSED(seed), PyObject *text)
{
    return (uint64_t)PyObject_Hash(text);
}

#endif

/* ---- the table */

static int
grow(Sums *self, size_t size)
{
    Entry *slots = PyMem_Calloc(size, sizeof(Entry));
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t from = 0; self->slots != NULL && from <= self->mask; from++) {
        if (self->slots[from].key != NULL) {
            size_t at = self->slots[from].hash & (size - 1);
            while (slots[at].key != NULL) {
                at = (at + 1) & (size - 1);
            }
            slots[at] = self->slots[from];
        }
    }
    PyMem_Free(self->slots);
    self->slots = slots;
    self->mask = size - 1;
    return 0;
}

static inline Entry *
first_slot(Sums *self, const Entry *entry)
{
    return &self->slots[entry->hash & self->mask];
}

static inline int
same_text(PyObject *one, PyObject *other)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(one);
    int kind = (int)PyUnicode_KIND(one);
    return one == other
        || (length == PyUnicode_GET_LENGTH(other) && kind == (int)PyUnicode_KIND(other)
            && memcmp(PyUnicode_DATA(one), PyUnicode_DATA(other), (size_t)(length * kind)) == 0);
}

/* Where the key is, or has its place. */
static inline Entry *
slot_of(Sums *self, const Entry *entry)
{
    size_t at = entry->hash & self->mask;
    for (;; at = (at + 1) & self->mask) {
        Entry *slot = &self->slots[at];
        if (slot->key == NULL || (slot->hash == entry->hash && same_text(slot->key, entry->key))) {
            return slot;
        }
    }
}

/* ---- batches */

static void
drop(Entry *batch, int count)
{
    while (count > 0) {
        Py_DECREF(batch[--count].key);
    }
}

/* Fill an entry from a pair: 0 if it is not one that the table can take. */
static inline int
read_pair(Sums *self, PyObject *pair, Entry *entry)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2
        || !PyUnicode_CheckExact(PyTuple_GET_ITEM(pair, 0))) {
        return 0;
    }
    entry->value = 1;
    if (!self->counting) {
        PyObject *value = PyTuple_GET_ITEM(pair, 1);
        int overflow;
        if (!PyLong_CheckExact(value)) {
            return 0;
        }
        entry->value = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            return 0;
        }
    }
    entry->key = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    entry->hash = hash_of(self->seed, entry->key);
    return 1;
}

/* Pull up to `most` pairs; return how many are in the batch, or -1 with an exception. There are
   fewer where the stream has ended, or where `*unfit` is a pair that the table cannot take. */
static int
pull_batch(Sums *self, PyObject *stream, Py_ssize_t most, Entry *batch, PyObject **unfit)
{
    iternextfunc next = Py_TYPE(stream)->tp_iternext;
    int count = 0;
    while (count < BATCH && count < most) {
        PyObject *pair = next(stream);
        if (pair == NULL) {
            if (PyErr_Occurred()) {
                if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
                    drop(batch, count);
                    return -1;
                }
                PyErr_Clear();
            }
            break;
        }
        self->pulled++;
        if (!read_pair(self, pair, &batch[count])) {
            *unfit = pair;
            break;
        }
        PREFETCH(first_slot(self, &batch[count]));
        count++;
        Py_DECREF(pair);
    }
    return count;
}

/* Add a batch to the sums, and take over its keys. Where a sum would be too large for its slot,
   what is left of the batch is appended to `unfit` as pairs. */
static int
add_batch(Sums *self, Entry *batch, int count, PyObject *unfit)
{
    if ((size_t)(self->used + count) > (self->mask + 1) / 3 * 2
        && grow(self, (self->mask + 1) * 2) < 0) {
        drop(batch, count);
        return -1;
    }
    for (int at = 0; at < count; at++) {
        char *key = (char *)first_slot(self, &batch[at])->key;
        if (key != NULL) { /* most strs of a word lie in two lines */
            PREFETCH(key);
            PREFETCH(key + CACHE_LINE);
        }
    }
    for (int at = 0; at < count; at++) {
        Entry *slot = slot_of(self, &batch[at]);
        long long sum, value = batch[at].value;
        if (slot->key == NULL) {
            *slot = batch[at];
            self->used++;
            continue;
        }
        sum = (long long)((unsigned long long)slot->value + (unsigned long long)value);
        if ((value < 0) != (sum < slot->value)) {
            int failed = 0;
            for (int left = at; left < count && !failed; left++) {
                PyObject *pair = Py_BuildValue("(OL)", batch[left].key, batch[left].value);
                failed = pair == NULL || PyList_Append(unfit, pair) < 0;
                Py_XDECREF(pair);
            }
            drop(batch + at, count - at);
            return failed ? -1 : 0;
        }
        slot->value = sum;
        Py_DECREF(batch[at].key);
    }
    return 0;
}

/* ---- what Python sees */

PyDoc_STRVAR(pull_doc,
"pull($self, stream, most, /)\n--\n\n"
"Take up to ``most`` pairs from an iterator. Returns how many were pulled, and a list of those that\n"
"were, but could not be taken: they are the last, and nothing may be pulled after them.");

static PyObject *
sums_pull(Sums *self, PyObject *args)
{
    PyObject *stream, *unfit;
    Py_ssize_t most, before = self->pulled;
    Entry batch[BATCH];
    int count;
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
        count = pull_batch(self, stream, most - (self->pulled - before), batch, &odd);
        if (count < 0 || add_batch(self, batch, count, unfit) < 0
            || (odd != NULL && PyList_Append(unfit, odd) < 0)) {
            Py_XDECREF(odd);
            Py_DECREF(unfit);
            return NULL;
        }
        Py_XDECREF(odd);
    } while (count == BATCH && PyList_GET_SIZE(unfit) == 0);
    return Py_BuildValue("(nN)", self->pulled - before, unfit);
}

PyDoc_STRVAR(columns_doc,
"columns($self, /)\n--\n\n"
"A list of the keys, in no order, and one of their sums.");

static PyObject *
sums_columns(Sums *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *keys = PyList_New(self->used), *values = PyList_New(self->used);
    Py_ssize_t found = 0;
    if (keys == NULL || values == NULL) {
        goto fail;
    }
    for (size_t at = 0; at <= self->mask; at++) {
        Entry *slot = &self->slots[at];
        if (slot->key != NULL) {
            PyObject *value = PyLong_FromLongLong(slot->value);
            if (value == NULL) {
                goto fail;
            }
            PyList_SET_ITEM(keys, found, Py_NewRef(slot->key));
            PyList_SET_ITEM(values, found, value);
            found++;
        }
    }
    return Py_BuildValue("(NN)", keys, values);
fail:
    Py_XDECREF(keys);
    Py_XDECREF(values);
    return NULL;
}

static Py_ssize_t
sums_length(Sums *self)
{
    return self->used;
}

static PyObject *
sums_get_pulled(Sums *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->pulled);
}

static PyObject *
sums_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    int counting;
    Sums *self;
    PyObject *text;
    if (!PyArg_ParseTuple(args, "p:Sums", &counting)) {
        return NULL;
    }
    self = (Sums *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->counting = counting;
        /* Python's own hash has a seed, which PYTHONHASHSEED may set. */
        text = PyUnicode_FromString("sums");
        if (text == NULL || grow(self, FIRST_SLOTS) < 0) {
            Py_CLEAR(self);
        }
        else {
            self->seed = (uint64_t)PyObject_Hash(text);
        }
        Py_XDECREF(text);
    }
    return (PyObject *)self;
}

static void
sums_dealloc(Sums *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t at = 0; self->slots != NULL && at <= self->mask; at++) {
        Py_XDECREF(self->slots[at].key);
    }
    PyMem_Free(self->slots);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(sums_doc,
"Sums(counting, /)\n--\n\n"
"Sums of ints by str; with ``counting``, of a 1 for each pair, whatever its value is.");

static PyMethodDef sums_methods[] = {
    {"pull", (PyCFunction)sums_pull, METH_VARARGS, pull_doc},
    {"columns", (PyCFunction)sums_columns, METH_NOARGS, columns_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sums_attributes[] = {
    {"pulled", (getter)sums_get_pulled, NULL, "How many pairs were pulled, ever.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sums_slots[] = {
    {Py_tp_doc, (void *)sums_doc},
    {Py_tp_new, sums_new},
    {Py_tp_dealloc, sums_dealloc},
    {Py_tp_methods, sums_methods},
    {Py_tp_getset, sums_attributes},
    {Py_sq_length, sums_length},
    {0, NULL},
};

static PyType_Spec sums_spec = {
    .name = "pytxmr.records._sums.Sums",
    .basicsize = sizeof(Sums),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sums_slots,
};

static int
add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &sums_spec, NULL);
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
    .m_name = "_sums",
    .m_doc = "Sums of ints by text key.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__sums(void)
{
    return PyModuleDef_Init(&module);
}
