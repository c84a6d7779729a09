/** Takes passwords and tokens out of finished lines, wherever they come from. */

const MASK = '***';
/** Matches `"password":"..."` and its like, as JSON or as JSON inside a JSON string (quotes escaped). */
const SECRET_FIELD =
  /((?:\\*)"[\w$.-]*(?:pass(?:word|wd)?|secret|auth[_-]?token|x-auth-token|x-service-token|subject-token|admin_?pass|private_key|authorization)\\*"\s*:\s*\\*")(?:[^"\\]|\\[^"])+/gi;
/** Fernet tokens of Keystone, wherever they appear. */
const FERNET_TOKEN = /\bgAAAA[\w-]{20,}=*/g;
/** The password in `rabbit://user:password@host`. */
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s:@/"\\]*:)[^\s@/"\\]+@/gi;

/** Removes passwords and tokens from a piece of text, JSON or not. */
export function redact(text: string): string {
  return text
    .replace(SECRET_FIELD, `$1${MASK}`)
    .replace(FERNET_TOKEN, MASK)
    .replace(URL_PASSWORD, `$1${MASK}@`);
}
