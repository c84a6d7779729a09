/** The projection of the cache's size to many images. */
import { project, releaseOf } from '../bench/projection';

test('an image belongs to the release in its name', () => {
  expect(releaseOf('debian-12')).toBe('debian-12');
  expect(releaseOf('debian-13-nginx')).toBe('debian-13');
  expect(releaseOf('tiny')).toBe('tiny');
});

test('first images and later ones are counted apart, and releases weigh the same', () => {
  const added = [
    { image: 'a-1', bytes: 20 },
    { image: 'a-1-x', bytes: 4 },
    { image: 'b-2', bytes: 10 },
    { image: 'a-1-y', bytes: 8 },
    { image: 'b-2-x', bytes: 2 },
  ];
  expect(project(added, 10, 2)).toEqual({
    images: 10,
    releases: 2,
    firstBytes: 15,
    laterBytes: 4,
    totalBytes: 2 * 15 + 8 * 4,
  });
});

test('without a second image of any release there is nothing to project from', () => {
  expect(project([{ image: 'a-1', bytes: 1 }], 1000, 20)).toBeUndefined();
});
