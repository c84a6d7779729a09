/**
 * What a host full of images would keep, from what each image of the corpus added to the cache. The first image of a release
 * pays for its kernel and its programs; the later ones pay for what sets them apart.
 */

/** What one µVM added: memory, disk delta and device state. */
export interface Added {
  readonly image: string;
  readonly bytes: number;
}

/** A cache of `images` images. */
export interface Projection {
  readonly images: number;
  readonly releases: number;
  /** Mean of the first images of the releases. */
  readonly firstBytes: number;
  /** Mean of all others. */
  readonly laterBytes: number;
  readonly totalBytes: number;
}

/** The release an image is of: `debian-12` of `debian-12-nginx`. */
export function releaseOf(image: string): string {
  return /^[a-z]+-\d+/.exec(image)?.[0] ?? image;
}

/**
 * Projects to `images` images of `releases` releases: each release has one image that costs what first images cost here on
 * average, and as many more as make up the number, which cost what later images cost here on average, each release weighing
 * the same. That the later ones get cheaper the more there are is left out.
 * @param added in the order in which they were added
 * @returns undefined when no release has a second image
 */
export function project(added: readonly Added[], images: number, releases: number): Projection | undefined {
  const perRelease = new Map<string, number[]>();
  for (const { image, bytes } of added) {
    const release = releaseOf(image);
    perRelease.set(release, [...(perRelease.get(release) ?? []), bytes]);
  }
  const firsts = [...perRelease.values()].flatMap((values) => values.slice(0, 1));
  const laters = [...perRelease.values()]
    .filter((values) => values.length > 1)
    .map((values) => mean(values.slice(1)));
  if (laters.length === 0) return undefined;
  const firstBytes = mean(firsts);
  const laterBytes = mean(laters);
  const totalBytes = releases * firstBytes + (images - releases) * laterBytes;
  return { images, releases, firstBytes, laterBytes, totalBytes };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
