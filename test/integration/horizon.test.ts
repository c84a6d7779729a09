/** A server's life by the dashboard, in a browser: launched, looked at, resized, kept as an image, deleted. */
import { ComputeProcess } from '../support/compute-process';
import { Horizon } from '../support/horizon';
import { NovaApi, waitFor } from '../support/nova-api';
import { ALL_IN_ONE, run } from '../support/servers';

const NAME = `dashboard-${Date.now()}`;
const IMAGE = `${NAME}-image`;

let nova: NovaApi;
let compute: ComputeProcess;
let horizon: Horizon;
let id: string;

beforeAll(async () => {
  nova = await NovaApi.login();
  compute = await ComputeProcess.start();
  await run(ALL_IN_ONE, ['discover-hosts']);
  horizon = await Horizon.login();
});
afterAll(async () => {
  await horizon.close();
  await nova.delete(id);
  await nova.waitForGone(id);
  await compute.stop();
});

test('launches a server, from its µVM where there is one', async () => {
  await horizon.launch({ name: NAME, image: 'tiny', flavor: 'm1.mini' });
  id = await waitFor(
    () => nova.serverId(NAME),
    30_000,
    () => `there is no server ${NAME}`,
  );
  await horizon.waitForStatus(id, 'Active');
  await horizon.screenshot('instances');
  expect((await nova.show(id))?.['OS-EXT-SRV-ATTR:host']).toBe('prebake');
});

test('shows its log and its screen', async () => {
  await horizon.waitForLog(id, NAME);
  await horizon.screenshot('log');
  await horizon.waitForConsole(id);
});

test('resizes it', async () => {
  await horizon.waitForStatus(id, 'Active');
  await horizon.action(id, 'resize', true);
  await horizon.choose('#id_flavor', 'm1.small');
  await horizon.submit();
  await nova.waitForStatus(id, 'VERIFY_RESIZE');
  await horizon.waitForStatus(id, 'Confirm or Revert Resize/Migrate');
  await horizon.screenshot('resize');
  await horizon.action(id, 'confirm', false);
  await nova.waitForStatus(id, 'ACTIVE');
});

test('makes an image of it', async () => {
  await horizon.waitForStatus(id, 'Active');
  await horizon.action(id, 'snapshot', true);
  await horizon.type('.modal-dialog #id_name', IMAGE);
  await horizon.submit();
  const image = await waitFor(
    () => nova.activeImage(IMAGE),
    120_000,
    () => `the image ${IMAGE} is not active`,
  );
  await nova.deleteImage(image);
});

test('deletes it', async () => {
  await horizon.waitForStatus(id, 'Active');
  await horizon.action(id, 'delete', true);
  await horizon.screenshot('delete');
  await horizon.submit();
  await nova.waitForGone(id);
  expect(horizon.errors).toEqual([]);
});
