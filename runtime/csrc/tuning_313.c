/* Makes the snapshot of Python 3.13 faster, using the layout of code objects, references and caches of that version. */
#define Py_BUILD_CORE 1
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* in these headers */
#include "internal/pycore_code.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_opcode_metadata.h"
#include "internal/pycore_pystate.h"

#include <opcode.h>

#include "heap.h"
#include "tuning.h"

#if PY_VERSION_HEX >> 16 != 0x030d
#error "this file is for Python 3.13"
#endif

#define GROUP_SHIFT 26 /* freeze.py writes the group of a function into flags that Python does not use */
#define GROUP_MASK 31
#define NO_HISTORY 0x5555 /* the counter of a branch that is taken every other time, as the compiler assumes */

/* ---- code objects get separate memory */

extern PyCodeObject *__real__PyCode_New(struct _PyCodeConstructor *how);

PyCodeObject *__wrap__PyCode_New(struct _PyCodeConstructor *how)
{
    int group = how->flags >> GROUP_SHIFT & GROUP_MASK;
    how->flags &= ~(GROUP_MASK << GROUP_SHIFT);
    heap_of_code(group);
    PyCodeObject *code = __real__PyCode_New(how);
    heap_of_code(-1);
    return code;
}

/* ---- specialised instructions. After a few runs the interpreter replaces an instruction that loads a global, or an attribute of a module, by
 * one that finds it by its index in the dictionary, as long as the dictionary's version is the same. A command runs most of its code only
 * once. In the snapshot all names are already defined, so the interpreter's own function is called for each such instruction: this saves
 * look-ups, and no counter is written, which would copy a page. */

static void specialise(PyCodeObject *code, PyObject *globals, PyObject *builtins)
{
    _Py_CODEUNIT *all = _PyCode_CODE(code);
    PyObject *module = NULL; /* the module that the last instruction has pushed */
    int before = 0;          /* the argument's upper bits, from EXTENDED_ARG */
    for (Py_ssize_t i = 0; i < Py_SIZE(code);) {
        _Py_CODEUNIT *at = all + i;
        int opcode = _PyOpcode_Deopt[at->op.code], argument = before << 8 | at->op.arg;
        PyObject *left = NULL;
        if (at->op.code == LOAD_GLOBAL) {
            PyObject *name = PyTuple_GET_ITEM(code->co_names, argument >> 1), *value = PyDict_GetItemWithError(globals, name);
            if (value || PyDict_GetItemWithError(builtins, name))
                _Py_Specialize_LoadGlobal(globals, builtins, at, name);
            left = value && PyModule_CheckExact(value) && !(argument & 1) ? value : NULL;
        } else if (at->op.code == LOAD_ATTR && module) {
            PyObject *name = PyTuple_GET_ITEM(code->co_names, argument >> 1);
            if (PyDict_GetItemWithError(PyModule_GetDict(module), name))
                _Py_Specialize_LoadAttr(module, at, name);
        }
        MUST(!PyErr_Occurred());
        if (opcode >= POP_JUMP_IF_FALSE && opcode <= POP_JUMP_IF_TRUE)
            at[1].cache = NO_HISTORY;
        before = opcode == EXTENDED_ARG ? argument : 0;
        module = opcode == EXTENDED_ARG ? module : left;
        i += 1 + _PyOpcode_Caches[opcode];
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) /* functions that this one creates */
        if (PyCode_Check(PyTuple_GET_ITEM(code->co_consts, i)))
            specialise((PyCodeObject *)PyTuple_GET_ITEM(code->co_consts, i), globals, builtins);
}

static int specialise_all(PyObject *object, void *Py_UNUSED(context))
{
    if (PyFunction_Check(object)) {
        PyFunctionObject *function = (PyFunctionObject *)object;
        if (PyDict_CheckExact(function->func_globals) && PyDict_CheckExact(function->func_builtins))
            specialise((PyCodeObject *)function->func_code, function->func_globals, function->func_builtins);
    }
    return 1;
}

/* ---- immortal objects. Their references are not counted, so using them does not modify their pages, and nothing is copied. tp_traverse
 * finds the objects that an object refers to; code objects, which the collector does not track, are handled separately. */

static int immortalise(PyObject *object, void *Py_UNUSED(context))
{
    if (_Py_IsImmortal(object))
        return 0;
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (PyUnicode_Check(object) || PyBytes_Check(object))
        PyObject_Hash(object);
    if (PyCode_Check(object)) {
        PyCodeObject *code = (PyCodeObject *)object;
        PyObject *const parts[] = {
            code->co_consts, code->co_names, code->co_exceptiontable, code->co_localsplusnames, code->co_localspluskinds,
            code->co_filename, code->co_name, code->co_qualname, code->co_linetable,
        };
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            immortalise(parts[i], NULL);
    } else if (Py_TYPE(object)->tp_traverse)
        Py_TYPE(object)->tp_traverse(object, immortalise, NULL);
    return 0;
}

/* Each new instance of a class would lower the number of names that the class may still learn, down to 1. By now it knows them (train.py). */
static void expect_known_attributes(PyTypeObject *type)
{
    PyDictKeysObject *keys = PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) ? ((PyHeapTypeObject *)type)->ht_cached_keys : NULL;
    if (!keys)
        return;
    if (keys->dk_usable > 1)
        keys->dk_usable = 1;
    _PyDictKeys_GetVersionForCurrentState(PyInterpreterState_Get(), keys);
}

static int immortalise_all(PyObject *object, void *context)
{
    immortalise(object, context);
    if (PyType_Check(object)) {
        PyUnstable_Type_AssignVersionTag((PyTypeObject *)object);
        expect_known_attributes((PyTypeObject *)object);
    }
    if (PyDict_Check(object))
        _PyDictKeys_GetVersionForCurrentState(PyInterpreterState_Get(), ((PyDictObject *)object)->ma_keys);
    if (Py_TYPE(object)->tp_traverse) /* immortalise() does not descend into objects that were already immortal */
        Py_TYPE(object)->tp_traverse(object, immortalise, context);
    return 1;
}

/* After the training, the cache of type attributes contains names that the interpreter has created for a single look-up. Each would be the
 * only reason to write to its page, when another name replaces it. */
static void forget_passing_names(void)
{
    struct type_cache *cache = &PyInterpreterState_Get()->types.type_cache;
    for (size_t i = 0; i < sizeof cache->hashtable / sizeof *cache->hashtable; i++) {
        struct type_cache_entry *entry = &cache->hashtable[i];
        if (entry->name && !_Py_IsImmortal(entry->name)) {
            Py_SETREF(entry->name, Py_None);
            entry->version = 0;
            entry->value = NULL;
        }
    }
}

/* ---- attributes of types. The interpreter's cache has 96 KiB, and addresses decide where it puts what it has looked up: its 24 pages would be
 * copied before the clone of init, and again on both sides after it. So a command only reads what the training has left there, and puts
 * what it looks up itself into a cache of less than a page. */

#define RECENT 128

extern PyObject *__real__PyType_LookupRef(PyTypeObject *type, PyObject *name);
static struct type_cache_entry recent[RECENT];
static int is_trained;

/* As the interpreter's find_name_in_mro() does it. NULL: there is none. */
static PyObject *find_in_bases(PyTypeObject *type, PyObject *name)
{
    PyObject *bases = type->tp_mro, *found = NULL;
    Py_hash_t hash = PyObject_Hash(name);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bases) && !found; i++)
        found = _PyDict_GetItem_KnownHash(_PyType_GetDict((PyTypeObject *)PyTuple_GET_ITEM(bases, i)), name, hash);
    return found;
}

/* Only immortal names are remembered: another one could disappear, and the next string get its address. */
PyObject *__wrap__PyType_LookupRef(PyTypeObject *type, PyObject *name)
{
    unsigned version = type->tp_version_tag, at = version ^ (unsigned)((uintptr_t)name >> 3);
    struct type_cache_entry *entry = &_PyInterpreterState_GET()->types.type_cache.hashtable[at % (1 << MCACHE_SIZE_EXP)];
    if (entry->version == version && entry->name == name)
        return Py_XNewRef(entry->value);
    if (!is_trained || !version || !type->tp_mro || !PyUnicode_CheckExact(name))
        return __real__PyType_LookupRef(type, name);
    if (!_Py_IsImmortal(name))
        return Py_XNewRef(find_in_bases(type, name));
    entry = &recent[at % RECENT];
    if (entry->version != version || entry->name != name)
        *entry = (struct type_cache_entry){version, name, find_in_bases(type, name)};
    return Py_XNewRef(entry->value);
}

/* Returns a borrowed reference; the type keeps what it has. */
PyObject *__wrap__PyType_Lookup(PyTypeObject *type, PyObject *name)
{
    PyObject *found = __wrap__PyType_LookupRef(type, name);
    Py_XDECREF(found);
    return found;
}

/* ---- functions that a command creates. The interpreter also lists them in a table of 64 KiB, which only its second compiler reads, and Debian
 * builds it without. */

void __wrap__PyFunction_SetVersion(PyFunctionObject *function, uint32_t version)
{
    function->func_version = version;
}

/* ---- names of files. Half of an interpreter's initialisation is skipped (launcher.c: _init_main), including the codec of the file system.
 * Without it, each path is converted to wide characters and from these to bytes; it is UTF-8 in any case (utf8_mode). */

static void set_up_paths(void)
{
    struct _Py_unicode_fs_codec *codec = &PyInterpreterState_Get()->unicode.fs_codec;
    codec->encoding = "utf-8";
    codec->utf8 = 1;
    codec->errors = "surrogateescape";
    codec->error_handler = _Py_ERROR_SURROGATEESCAPE;
}

/* ---- the two entry points */

void tuning_prepare(void)
{
    set_up_paths();
    PyUnstable_GC_VisitObjects(specialise_all, NULL);
}

void tuning_finish(void)
{
    PyUnstable_GC_VisitObjects(specialise_all, NULL); /* again: the training has given branches a history */
    PyUnstable_GC_VisitObjects(immortalise_all, NULL);
    forget_passing_names();
    is_trained = 1;
}
