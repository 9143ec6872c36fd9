/* index.js -- everheap for Node: a JSON document in a heap file, with atomic durable commits.
 *
 *   const { Database } = require('everheap');
 *   const db = new Database('app.heap');
 *   db.transaction(() => {                      // committed at its end, undone by an exception
 *     db.put('/users', [{ name: 'Ann', age: 41 }]);
 *     db.increment('/users/0/age');
 *   });
 *   console.log(db.get('/users/0/name'), db.find('$.users[?@.age > 40].name'));
 *   db.close();
 *
 * Paths are JSON Pointers. Integers that a number cannot hold are BigInt, {"$base64"} is a Buffer. A failed call
 * throws an Error with `code` (such as 'EVH_BUSY') and, where the file is damaged, `offset`.
 */
'use strict';
const native = require('./everheap.node');

class Database {
  #handle;

  /** options: {mode: 'durable' | 'read-only' | 'private', mustExist: false, name: 'json'} */
  constructor(path, options = {}) {
    const modes = { durable: native.DURABLE, 'read-only': native.READ_ONLY, private: native.PRIVATE };
    const mode = modes[options.mode ?? 'durable'];
    if (mode === undefined) throw new TypeError(`no such mode: ${options.mode}`);
    this.#handle = native.open(String(path), mode, Boolean(options.mustExist), options.name ?? '');
  }

  /** The value at a path, references followed; undefined if nothing is there. */
  get(path = '') { return native.get(this.#handle, path); }
  /** Set the value at a path; what is missing on the way is made. */
  put(path, value) { native.put(this.#handle, path, value); }
  /** Append to the array at a path, which is made if nothing is there. */
  push(path, value) { native.push(this.#handle, path, value); }
  /** Take the value at a path out. True if there was one. */
  delete(path) { return native.erase(this.#handle, path); }
  has(path) { return native.exists(this.#handle, path); }
  /** The keys of the object at a path; undefined if nothing is there. */
  keys(path = '') { return native.keys(this.#handle, path); }
  /** Add to the number at a path, 0 if nothing is there. */
  increment(path, by = 1) { native.increment(this.#handle, path, by); }
  /** The paths of what a JSONPath query (RFC 9535) finds. */
  query(query) { return native.query(this.#handle, query); }
  /** [path, value] of what a JSONPath query finds. */
  find(query) { return this.query(query).map((path) => [path, this.get(path)]); }
  /** The paths of keys and strings that contain a text. */
  search(text, { ignoreCase = false, limit = 0 } = {}) {
    return native.search(this.#handle, text, ignoreCase, limit);
  }
  /** Apply a JSON Patch (RFC 6902), all of it or nothing. */
  patch(operations, path = '') { native.apply(this.#handle, path, JSON.stringify(operations), false); }
  /** Apply a JSON Merge Patch (RFC 7396). */
  merge(patch, path = '') { native.apply(this.#handle, path, JSON.stringify(patch), true); }
  /** The value at a path as JSON text; undefined if nothing is there. */
  stringify(path = '', indent = 0) { return native.stringify(this.#handle, path, indent); }
  /** Counts and sizes of the document. */
  metrics() { return this.get('/$metrics'); }

  /** Make every change durable, all or nothing. */
  commit() { native.commit(this.#handle); }
  /** Undo every change since the last commit. */
  rollback() { native.rollback(this.#handle); }
  /** Call `work`, which may not wait, and commit; or undo what it did, if it throws. */
  transaction(work) {
    let result;
    try {
      result = work(this);
    } catch (error) {
      this.rollback();
      throw error;
    }
    this.commit();
    return result;
  }
  /** Close it: what was not committed is gone. */
  close() { native.close(this.#handle); }
}

module.exports = { Database, version: native.version };
