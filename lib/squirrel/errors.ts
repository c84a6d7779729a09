/** What can go wrong with the cache of µVMs, by class. */

/** Base of everything the cache rejects with. */
export class SquirrelError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** No µVM of this key is offered by the cache. */
export class UnknownUvm extends SquirrelError {
  constructor(readonly key: string) {
    super(`the cache has no µVM ${key}`);
  }
}

/** A file of the cache is not what was written into it. Names the file, so that an operator can look at it. */
export class DamagedFile extends SquirrelError {
  constructor(
    readonly path: string,
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super(`${path} is damaged: ${problem}`, options);
  }
}

/** A file is of a format version this program does not know. */
export class UnsupportedFormat extends SquirrelError {
  constructor(
    readonly path: string,
    readonly found: string,
    readonly expected: string,
  ) {
    super(`${path} has format ${found}, this version of prebake reads ${expected}`);
  }
}

/** Another process keeps changing the cache for longer than the caller wants to wait. */
export class CacheBusy extends SquirrelError {}

/** The base file of a µVM's image is not on this host; it can be fetched again, and the µVM is as good as before then. */
export class ImageMissing extends SquirrelError {
  constructor(readonly path: string) {
    super(`the image's base file ${path}, which the µVM has pages in, is not there`);
  }
}

/** There is less room on the cache's file system than the host should be left with. */
export class NoRoom extends SquirrelError {}

/** What was asked for is not done, because the cache is being closed. */
export class CacheClosing extends SquirrelError {
  override readonly name = 'CacheClosing';

  constructor() {
    super('the cache is being closed');
  }
}
