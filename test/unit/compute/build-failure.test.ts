import { DeletedDuringBuild, classifyBuildFailure } from '../../../lib/compute/build-failure';
import { faultFields } from '../../../lib/compute/faults';
import { HypervisorUnavailable, ImageUnacceptable, PortNotFound } from '../../../lib/exceptions';
import { RemoteError } from '../../../lib/messaging';

function remote(remoteClass: string): RemoteError {
  return new RemoteError({
    remoteClass,
    remoteModule: 'nova.exception_Remote',
    message: remoteClass,
    args: [],
    kwargs: {},
    traceback: [],
  });
}

describe('classifyBuildFailure', () => {
  it.each<[Error, string]>([
    [new DeletedDuringBuild(), 'gone'],
    [remote('InstanceNotFound'), 'gone'],
    [remote('UnexpectedDeletingTaskStateError'), 'gone'],
    [new ImageUnacceptable('no'), 'abort'],
    [new PortNotFound('no'), 'abort'],
    [new HypervisorUnavailable('no'), 'reschedule'],
    [new Error('disk died'), 'reschedule'],
  ])('%s -> %s', (error, verdict) => {
    expect(classifyBuildFailure(error)).toBe(verdict);
  });
});

describe('faultFields', () => {
  it("keeps Nova's HTTP code and names the causes", () => {
    const error = new PortNotFound('Port x could not be found.', { cause: new Error('404') });
    expect(faultFields(error)).toMatchObject({ code: 404, message: 'Port x could not be found.: 404' });
  });

  it('fits the database column', () => {
    const fault = faultFields(new Error('x'.repeat(1000)));
    expect(fault.code).toBe(500);
    expect(fault.message).toHaveLength(255);
  });
});
