/** How tempest's console is read: lines as tempest 33 prints them. */
import { missingPasses, parseOutcome } from '../tempest/outcome';

const TEST = 'tempest.api.compute.servers.test_delete_server.DeleteServersTestJSON.test_delete_active_server';

describe('the outcome of a tempest test', () => {
  it('is read from its line', () => {
    expect(parseOutcome(`{0} ${TEST} [13.738869s] ... ok`)).toEqual({
      test: TEST,
      result: 'passed',
      durationS: 13.738869,
      reason: '',
    });
    expect(parseOutcome(`{1} ${TEST}[id-925fdfb4,smoke] [0.5s] ... FAILED\n`)).toMatchObject({
      test: TEST,
      result: 'failed',
    });
  });

  it('keeps why a test, or a class of them, was skipped', () => {
    const line =
      '{1} setUpClass (tempest.api.compute.servers.test_attach_interfaces.AttachInterfacesTestJSON) ... SKIPPED: Interface attachment is not available.';
    expect(parseOutcome(line)).toEqual({
      test: 'setUpClass (tempest.api.compute.servers.test_attach_interfaces.AttachInterfacesTestJSON)',
      result: 'skipped',
      durationS: null,
      reason: 'Interface attachment is not available.',
    });
  });

  it('is not seen in anything else', () => {
    for (const line of ['', '======', 'Ran: 3 tests in 12.3 sec.', ' - Passed: 3', '{0} still running']) {
      expect(parseOutcome(line)).toBeNull();
    }
  });
});

describe('passes of a stock nova-compute', () => {
  it('are missed when the test failed, was skipped, or never ran', () => {
    const outcomes = [
      `{0} a.b [1s] ... ok`,
      '{0} a.c [1s] ... FAILED',
      '{0} a.d ... SKIPPED: no volumes',
    ].map((line) => parseOutcome(line));
    expect(
      missingPasses(
        ['a.e', 'a.d', 'a.c', 'a.b'],
        outcomes.filter((outcome) => outcome !== null),
      ),
    ).toEqual(['a.c', 'a.d', 'a.e']);
  });
});
