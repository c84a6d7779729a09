/** What Keystone says of a login: who it is, with which roles, and what time it is there. */
import { z } from 'zod';
import type { KeystoneSession } from '../openstack';

/** The answer. */
export interface Identity {
  readonly userName: string;
  readonly projectName: string | null;
  readonly roles: readonly string[];
  /** Keystone's clock, in whole seconds, at some instant between `fromMs` and `untilMs` of ours; null when unknown. */
  readonly clock: { readonly atMs: number; readonly fromMs: number; readonly untilMs: number } | null;
}

const TokenAnswer = z.object({
  token: z.object({
    issued_at: z.string().optional(),
    user: z.object({ name: z.string() }),
    project: z.object({ name: z.string() }).nullish(),
    roles: z.array(z.object({ name: z.string() })).default([]),
  }),
});

/**
 * Logs in, if the session has not yet, and has Keystone describe the token.
 * @throws as KeystoneSession.send
 */
export async function whoAmI(
  session: Pick<KeystoneSession, 'send' | 'token'>,
  authUrl: string,
): Promise<Identity> {
  const loginFromMs = Date.now();
  const token = await session.token();
  const fromMs = Date.now();
  const answer = await session.send(
    'identity',
    { endpointOverride: authUrl },
    { method: 'GET', path: '/v3/auth/tokens', headers: { 'X-Subject-Token': token } },
  );
  const untilMs = Date.now();
  const { issued_at: issuedAt, user, project, roles } = TokenAnswer.parse(answer.body).token;
  const { date } = answer.headers;
  // Some web servers send no date; the token, which was issued just now, has one too.
  const clock =
    date !== undefined
      ? { atMs: Date.parse(date), fromMs, untilMs }
      : issuedAt !== undefined
        ? { atMs: Date.parse(issuedAt), fromMs: loginFromMs, untilMs: fromMs }
        : null;
  return {
    userName: user.name,
    projectName: project?.name ?? null,
    roles: roles.map((role) => role.name),
    clock: clock === null || Number.isNaN(clock.atMs) ? null : clock,
  };
}
