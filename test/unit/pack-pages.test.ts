/** Finding stored pages by their hashes: every page at its place, the first of equal ones, and no other. */
import { randomBytes } from 'node:crypto';
import { PackPages } from '../../lib/squirrel/pack-pages';

const hashOf = (first: number, second: number): Buffer => {
  const hash = Buffer.alloc(8);
  hash.writeUInt32LE(first, 0);
  hash.writeUInt32LE(second, 4);
  return hash;
};

test('every page is found where it is, and nothing else', () => {
  const packs = [3000, 0, 1, 7000].map((pages) => randomBytes(pages * 8));
  const pages = new PackPages(packs);
  packs.forEach((hashes, pack) => {
    for (let page = 0; page * 8 < hashes.length; page += 1) {
      expect(pages.find(hashes.subarray(page * 8, page * 8 + 8))).toEqual({ pack, page });
    }
  });
  for (let turn = 0; turn < 1000; turn += 1) expect(pages.find(randomBytes(8))).toBeUndefined();
});

test('of equal pages the first counts; hashes that begin alike are told apart', () => {
  const alike = Array.from({ length: 100 }, (_, number) => hashOf(0xfffffff0, number));
  const pages = new PackPages([Buffer.concat(alike), Buffer.concat([...alike, hashOf(1, 1)])]);
  alike.forEach((hash, page) => expect(pages.find(hash)).toEqual({ pack: 0, page }));
  expect(pages.find(hashOf(1, 1))).toEqual({ pack: 1, page: 100 });
  expect(pages.find(hashOf(0xfffffff0, 100))).toBeUndefined();
});

test('an empty cache has nothing', () => {
  expect(new PackPages([]).find(hashOf(0, 0))).toBeUndefined();
  expect(new PackPages([Buffer.alloc(0)]).find(hashOf(0, 0))).toBeUndefined();
});
