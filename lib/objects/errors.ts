/** What can be wrong with an object from the wire. */

/** A field is missing or is not what it should be; the message names the object and the field. */
export class ObjectFieldError extends Error {
  constructor(
    readonly objectName: string,
    readonly field: string,
    readonly problem: string,
    cause?: unknown,
  ) {
    super(`${objectName}.${field} ${problem}`, { cause });
    this.name = 'ObjectFieldError';
  }
}

/** A value that was to be a certain Nova object is something else, or of a major version this program cannot read. */
export class UnexpectedObjectError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnexpectedObjectError';
  }
}

/** The conductor answered something that its methods never answer. */
export class ConductorAnswerError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'ConductorAnswerError';
  }
}
