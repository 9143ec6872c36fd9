/* test_node.js -- the module for Node. Usage: node test_node.js BUILD; it closes as a test binary does. */
'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { spawn, spawnSync } = require('node:child_process');

const build = path.resolve(process.argv[2]);
const { Database } = require(path.join(build, 'node/everheap'));
const folder = fs.mkdtempSync(path.join(build, 'node-test-'));
let files = 0;
const file = () => path.join(folder, `${files++}.db`);

const VALUE = {
  null: null, yes: true, no: false, int: -5, safe: 2 ** 53 - 1, large: 18446744073709551615n,
  small: -9007199254740993n, real: 0.1, text: 'ä\0b', bytes: Buffer.from([0, 255]), list: [1, [2, { three: [3] }], {}],
  'a/b~c': { '': 1 }, ref: { $ref: '/int' },
};

const tests = {
  'every kind of value comes back'() {
    const name = file();
    const db = new Database(name);
    db.put('', VALUE);
    db.commit();
    db.close();
    const again = new Database(name, { mode: 'read-only' });
    assert.deepEqual(again.get(), VALUE);
    assert.deepEqual(again.keys(), Object.keys(VALUE));
    assert.equal(again.get('/ref'), -5);
    assert.throws(() => again.put('/x', 1), { code: 'EVH_READ_ONLY' });
    again.close();
  },
  'paths, lists, queries and patches'() {
    const db = new Database(file());
    db.put('/users/0/name', 'Ann');
    db.push('/users', { name: 'Bob', age: 3, left: undefined });
    db.increment('/users/0/age', 41);
    db.increment('/users/0/age');
    assert.deepEqual(db.get('/users'), [{ name: 'Ann', age: 42 }, { name: 'Bob', age: 3 }]);
    assert.equal(db.get('/nobody'), undefined);
    assert.equal(db.has('/users/1'), true);
    assert.deepEqual(db.find('$.users[?@.age > 40].name'), [['/users/0/name', 'Ann']]);
    assert.deepEqual(db.search('BOB', { ignoreCase: true }), ['/users/1/name']);
    db.patch([{ op: 'remove', path: '/users/0' }]);
    db.merge({ other: [1] });
    assert.equal(db.delete('/nothing'), false);
    assert.equal(db.delete('/users/0/age'), true);
    assert.equal(db.stringify(), '{"users":[{"name":"Bob"}],"other":[1]}');
    assert.ok(Object.keys(db.metrics()).length > 2);
    db.close();
  },
  'what is no value changes nothing'() {
    const db = new Database(file());
    db.put('/kept', [1]);
    const ring = [];
    ring.push(ring);
    for (const bad of [undefined, () => 1, Symbol('x'), { x: [() => 1] }, NaN, ring]) {
      assert.throws(() => db.put('/kept', bad));
      assert.throws(() => db.push('/kept', bad));
    }
    assert.throws(() => db.get(7), TypeError);
    assert.throws(() => db.query('$['), { code: 'EVH_SYNTAX' });
    assert.deepEqual(db.get(), { kept: [1] });
    db.put('/proto', JSON.parse('{"__proto__": {"x": 1}}'));
    assert.equal(db.get('/proto').x, undefined);
    assert.equal(db.stringify('/proto'), '{"__proto__":{"x":1}}');
    db.close();
    assert.throws(() => db.get(), /closed/);
    db.close();
  },
  'a transaction is all or nothing'() {
    const name = file();
    const db = new Database(name);
    db.transaction(() => db.put('/n', 1));
    assert.throws(() => db.transaction(() => { db.put('/n', 2); throw new Error('no'); }), /no/);
    assert.equal(db.get('/n'), 1);
    assert.throws(() => new Database(name), { code: 'EVH_BUSY' });
    db.put('/n', 3);
    db.close();
    assert.equal(new Database(name).get('/n'), 1);
    assert.throws(() => new Database(file(), { mustExist: true }), { code: 'EVH_NOT_FOUND' });
  },
  async 'a killed program leaves its last commit'() {
    const name = file();
    const program = `const { Database } = require(process.argv[1]); const db = new Database(process.argv[2]);
      for (let i = 1; ; i++) { db.put('/first', i); db.put('/second', i); db.commit(); console.log(i); }`;
    const child = spawn(process.execPath, ['-e', program, path.join(build, 'node/everheap'), name]);
    let told = '';
    await new Promise((resolve) => {
      child.stdout.on('data', (data) => { told += data; if (told.length > 200) child.kill('SIGKILL'); });
      child.on('close', resolve);
    });
    const db = new Database(name);
    const lines = told.split('\n');
    assert.ok(db.get('/first') >= Number(lines[lines.length - 2]));
    assert.equal(db.get('/first'), db.get('/second'));
    db.close();
  },
  'the command and Node share a file'() {
    const name = file();
    const db = new Database(name);
    db.transaction(() => db.put('/list', [1, 2]));
    db.close();
    const done = spawnSync(path.join(build, 'everheap'), ['json', 'get', name, '/list'], { encoding: 'utf8' });
    assert.equal(done.stdout, '[1,2]\n');
  },
};

(async () => {
  let passed = 0, failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      passed++;
    } catch (error) {
      failed++;
      console.log(`${name}:`, error);
    }
  }
  fs.rmSync(folder, { recursive: true });
  console.log(`${passed} passed, ${failed} failed, 0 skipped`);
  process.exit(failed ? 1 : 0);
})();
