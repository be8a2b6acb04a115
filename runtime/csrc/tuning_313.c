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

static int immortalise_all(PyObject *object, void *context)
{
    immortalise(object, context);
    if (PyType_Check(object))
        PyUnstable_Type_AssignVersionTag((PyTypeObject *)object);
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
}
