/** What a check is: one precondition of the service, by name, with what was found and what to do about it. */

/** ok: holds; warn: works, but not as well as it could; fail: prebake cannot do its work; skip: could not be looked at. */
export type FindingState = 'ok' | 'warn' | 'fail' | 'skip';

/** What a check found. `fix` is one sentence or command for the operator, null when there is nothing to do. */
export interface Finding {
  readonly state: FindingState;
  readonly detail: string;
  readonly fix: string | null;
}

/** One precondition. */
export interface Check {
  /** Short and lasting: scripts look for it. */
  readonly name: string;
  /** Checks that must not have failed for this one to make sense. */
  readonly needs?: readonly string[];
  /** How long it may take, 15 s unless told. */
  readonly timeoutMs?: number;
  /** What to do when `run` rejects. */
  readonly fix: string;
  /** Looks without changing anything. A rejection is a failure whose message is the detail. */
  run(signal: AbortSignal): Promise<Finding>;
}

export function ok(detail: string): Finding {
  return { state: 'ok', detail, fix: null };
}

export function warn(detail: string, fix: string): Finding {
  return { state: 'warn', detail, fix };
}

export function fail(detail: string, fix: string): Finding {
  return { state: 'fail', detail, fix };
}

export function skip(detail: string): Finding {
  return { state: 'skip', detail, fix: null };
}
