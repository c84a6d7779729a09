/** Horizon in a browser, used as a person would: forms filled in, buttons pressed, tables read. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Browser } from './browser';

/** Where the all-in-one's Horizon listens. */
const URL = 'http://127.0.0.1:8088';
/** Kept for whoever wants to look at them. */
const SCREENSHOTS = 'dist/screenshots';
const PAGE_TIMEOUT_MS = 60_000;

const quoted = (text: string): string => JSON.stringify(text);
/** The visible element of this selector whose text is this. */
const withText = (selector: string, text: string): string =>
  `[...document.querySelectorAll(${quoted(selector)})].find((e) => e.offsetParent !== null && e.innerText.trim() === ${quoted(text)})`;

/** One person at the dashboard. */
export class Horizon {
  private constructor(private readonly browser: Browser) {}

  /** Opens a browser and logs in with what devstack/openrc says. */
  static async login(): Promise<Horizon> {
    await mkdir(SCREENSHOTS, { recursive: true });
    const openrc = await readFile(join(__dirname, '..', '..', 'devstack', 'openrc'), 'utf8');
    const variable = (name: string): string =>
      (new RegExp(`^export ${name}=(.*)$`, 'm').exec(openrc)?.[1] ?? '').replace(/^'(.*)'$/, '$1');
    const horizon = new Horizon(await Browser.launch());
    const { browser } = horizon;
    await browser.present(1400, 1000, 'light');
    await browser.open(`${URL}/auth/login/`);
    await browser.until("document.querySelector('#id_password') !== null", PAGE_TIMEOUT_MS);
    await horizon.type('#id_username', variable('OS_USERNAME'));
    await horizon.type('#id_password', variable('OS_PASSWORD'));
    await browser.evaluate(`document.querySelector('#id_password').form.submit()`);
    await browser.until("document.querySelector('.navbar .user-name') !== null", PAGE_TIMEOUT_MS);
    return horizon;
  }

  /** What the pages threw as JavaScript errors. */
  get errors(): readonly string[] {
    return this.browser.complaints.filter((complaint) => complaint.includes('exceptionDetails'));
  }

  async close(): Promise<void> {
    await this.browser.close();
  }

  async screenshot(name: string): Promise<void> {
    await writeFile(join(SCREENSHOTS, `horizon-${name}.png`), await this.browser.screenshot());
  }

  /** Opens a page of the dashboard and waits until `there` is on it. */
  async visit(path: string, there: string): Promise<void> {
    await this.browser.open(`${URL}${path}`);
    await this.browser.until(
      `document.readyState === 'complete' && document.querySelector(${quoted(there)}) !== null`,
      PAGE_TIMEOUT_MS,
    );
  }

  /** The launch wizard, from the first tab to the button. */
  async launch(server: {
    readonly name: string;
    readonly image: string;
    readonly flavor: string;
  }): Promise<void> {
    await this.visit('/project/instances/', '#instances__action_launch-ng');
    await this.click('#instances__action_launch-ng');
    await this.browser.until("document.querySelector('.modal-dialog #name') !== null", PAGE_TIMEOUT_MS);
    await this.type('.modal-dialog #name', server.name);
    for (const [step, wanted] of [
      ['Source', server.image],
      ['Flavor', server.flavor],
      ['Networks', 'private'],
    ] as const) {
      await this.clickText('.wizard-nav li a', step);
      await this.allocate(wanted);
    }
    await this.screenshot('launch');
    await this.browser.until(
      "document.querySelector('.modal-footer button.finish')?.disabled === false",
      PAGE_TIMEOUT_MS,
    );
    await this.click('.modal-footer button.finish');
    await this.browser.until("document.querySelector('.modal-dialog') === null", PAGE_TIMEOUT_MS);
  }

  /** Waits until the server's row in the table of instances says this. */
  async waitForStatus(serverId: string, status: string, timeoutMs = 180_000): Promise<void> {
    await this.visit('/project/instances/', '#instances');
    const row = `document.querySelector('tr[data-object-id=${quoted(serverId)}]')`;
    await this.browser.until(`${row}?.innerText.includes(${quoted(status)}) === true`, timeoutMs);
  }

  /** Chooses an action in the server's row, as `resize`, and waits for its dialogue where it has one. */
  async action(serverId: string, action: string, dialogue: boolean): Promise<void> {
    const id = `#instances__row_${serverId}__action_${action}`;
    await this.browser.until(`document.querySelector(${quoted(id)}) !== null`, PAGE_TIMEOUT_MS);
    await this.click(id);
    if (dialogue) {
      await this.browser.until(
        "document.querySelector('.modal-dialog .modal-footer .btn-primary, .modal-dialog .modal-footer .btn-danger') !== null",
        PAGE_TIMEOUT_MS,
      );
    }
  }

  /** Sets a select box of the open dialogue by the text of its option. */
  async choose(selector: string, text: string): Promise<void> {
    await this.browser.evaluate(`(() => {
      const select = document.querySelector(${quoted(selector)});
      select.value = [...select.options].find((o) => o.text.trim() === ${quoted(text)}).value;
      select.dispatchEvent(new Event('change', { bubbles: true }));
    })()`);
  }

  /** Agrees to the open dialogue. */
  async submit(): Promise<void> {
    await this.click('.modal-dialog .modal-footer .btn-primary, .modal-dialog .modal-footer .btn-danger');
  }

  async type(selector: string, text: string): Promise<void> {
    await this.browser.evaluate(`(() => {
      const field = document.querySelector(${quoted(selector)});
      field.value = ${quoted(text)};
      field.dispatchEvent(new Event('input', { bubbles: true }));
      field.dispatchEvent(new Event('change', { bubbles: true }));
    })()`);
  }

  /** The log tab of a server, which stays as it was when it was opened, until these words are in it. */
  async waitForLog(serverId: string, words: string, timeoutMs = 120_000): Promise<void> {
    const deadlineMs = Date.now() + timeoutMs;
    const said = `document.querySelector('pre.logs').innerText`;
    do {
      if (Date.now() > deadlineMs) throw new Error(`the log tab has no ${words}`);
      await this.visit(`/project/instances/${serverId}/?tab=instance_details__log`, 'pre.logs');
    } while (!String(await this.browser.evaluate(said)).includes(words));
  }

  /** The console tab of a server: the dashboard embeds noVNC; this opens what it embeds until its screen is there. */
  async waitForConsole(serverId: string): Promise<void> {
    await this.visit(`/project/instances/${serverId}/?tab=instance_details__console`, 'iframe#console_embed');
    const address = await this.browser.evaluate("document.querySelector('iframe#console_embed').src");
    await this.screenshot('console');
    await this.browser.open(String(address));
    await this.browser.until(
      "document.querySelector('#status')?.textContent.startsWith('Connected') === true",
      PAGE_TIMEOUT_MS,
    );
    await this.browser.until("document.querySelector('#screen canvas')?.width >= 640");
    await this.screenshot('novnc');
  }

  private async click(selector: string): Promise<void> {
    await this.browser.evaluate(`document.querySelector(${quoted(selector)}).click()`);
  }

  private async clickText(selector: string, text: string): Promise<void> {
    const element = withText(selector, text);
    await this.browser.until(`${element} !== undefined`, PAGE_TIMEOUT_MS);
    await this.browser.evaluate(`${element}.click()`);
  }

  /** Moves a row of the wizard's step from available to allocated, unless it is there already. */
  private async allocate(name: string): Promise<void> {
    const row = (table: string): string =>
      `[...document.querySelectorAll('.${table} tr')].find((e) => e.offsetParent !== null && [...e.cells].some((c) => c.innerText.trim() === ${quoted(name)}))`;
    const allocated = `${row('transfer-allocated')} !== undefined`;
    await this.browser.until(`${allocated} || ${row('transfer-available')} !== undefined`, PAGE_TIMEOUT_MS);
    await this.browser.evaluate(
      `${allocated} || ${row('transfer-available')}.querySelector('button').click()`,
    );
    await this.browser.until(allocated);
  }
}
