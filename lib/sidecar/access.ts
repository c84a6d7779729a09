/**
 * Who may talk to the sidecar. With a token: who has it, as a bearer token or, in browsers, as a cookie given for it once.
 * Without one, which is for loopback only: whoever asks by a loopback name, so that no foreign web page gets in by
 * giving its own name this address.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';

const COOKIE = 'prebake_sidecar';
const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export class Access {
  /** What the cookie holds: dies with the process, and does not tell the token. */
  private readonly ticket = randomBytes(32).toString('base64url');

  constructor(private readonly token: string | null) {}

  /** Whether a request may be answered. */
  admits(request: Pick<Request, 'headers'>): boolean {
    if (this.token === null) return LOOPBACK_NAME.test(request.headers.host ?? '');
    const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined) return same(bearer, this.token);
    const cookie = new RegExp(`(?:^|;\\s*)${COOKIE}=([^;]*)`).exec(request.headers.cookie ?? '')?.[1];
    return cookie !== undefined && same(cookie, this.ticket);
  }

  /** Answers who is not admitted; browsers get a form. */
  readonly guard = (request: Request, response: Response, next: NextFunction): void => {
    if (this.admits(request)) next();
    else if (this.token === null) {
      response.status(403).json({ error: 'ask by a loopback name, such as 127.0.0.1 or localhost' });
    } else if (request.accepts(['json', 'html']) === 'html') {
      response.status(401).redirect('/login');
    } else {
      response.status(401).set('WWW-Authenticate', 'Bearer').json({ error: 'a token is needed' });
    }
  };

  /** Takes the token of the form; gives the cookie for it. */
  readonly login = (request: Request, response: Response): void => {
    const body: unknown = request.body;
    const given = typeof body === 'object' && body !== null && 'token' in body ? body.token : undefined;
    if (this.token === null || typeof given !== 'string' || !same(given.trim(), this.token)) {
      response.redirect(303, '/login?wrong');
      return;
    }
    response.cookie(COOKIE, this.ticket, { httpOnly: true, sameSite: 'strict', path: '/' });
    response.redirect(303, '/');
  };
}

/** Takes the same time wherever they differ. */
function same(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
