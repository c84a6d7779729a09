/**
 * A boot, from the RPC to an active server (nova/compute/manager.py, build_and_run_instance).
 *
 * How it overlaps its work is in `build-attempt.ts`; here is what frames an attempt, and what follows a failed one.
 */
import { describeError } from '../exceptions';
import { type Logger, logAbout } from '../log';
import type { RequestContext } from '../messaging';
import { Timeline } from '../timeline';
import { requestTrace } from '../tracing';
import type { Admission, Admitted } from './admission';
import { BuildAttempt, type BuilderParts } from './build-attempt';
import { classifyBuildFailure } from './build-failure';
import { type BuildRequest, parseBuildRequest } from './build-request';
import { TaskState, VmState } from './states';

const METHOD = 'build_and_run_instance';
const EVENT = 'compute__do_build_and_run_instance';

/** Builds servers. */
export class Builder {
  constructor(
    private readonly parts: BuilderParts,
    private readonly admission: Admission,
  ) {}

  /** Handles the RPC. Failures end in the server's records, not with the caller: the RPC is a cast. */
  async buildAndRunInstance(context: RequestContext, args: Readonly<Record<string, unknown>>): Promise<void> {
    const timeline = new Timeline(requestTrace('boot', context));
    timeline.mark('rpc_received');
    const request = parseBuildRequest(args);
    const { instance, image } = request;
    await timeline.run(() =>
      this.parts.locks.run(instance.uuid, async (signal) => {
        const admitted = await timeline.phase('admission', () => this.admission.enter(image.id, signal));
        try {
          await this.build(context, request, timeline, admitted, signal);
        } finally {
          admitted.built();
        }
      }),
    );
  }

  private async build(
    context: RequestContext,
    request: BuildRequest,
    timeline: Timeline,
    admitted: Admitted,
    signal: AbortSignal,
  ): Promise<void> {
    const { records, tracker, boots, news, logger } = this.parts;
    const { instance } = request;
    const log = logAbout(logger, { context, instanceUuid: instance.uuid });
    const opened = records.startEvent(context, instance.uuid, EVENT);
    opened.catch((error: unknown) => log.warn(`action event: ${describeError(error)}`));
    const boot = boots.begin({ instanceUuid: instance.uuid, imageId: request.image.id, timeline, log });
    let failure: unknown = null;
    try {
      const imageName = { legacy: { image_name: request.imageName } };
      news.tell(context, instance, METHOD, 'start', imageName);
      const attempt = new BuildAttempt(this.parts, context, request, timeline, log);
      const { outcome, followUp } = await attempt.run(signal);
      const activeMs = timeline.mark('active');
      news.tell(context, instance, METHOD, 'end', { legacy: { message: 'Success' } });
      tracker.buildSucceeded();
      boot.active(outcome);
      log.info(
        { how: outcome.how, why: outcome.how === 'cold' ? outcome.why : undefined },
        `server is active after ${Math.round(activeMs)} ms`,
      );
      void followUp
        .then(
          () => boot.ready(),
          (error: unknown) => boot.failed(error),
        )
        .finally(admitted.settled);
    } catch (error) {
      admitted.settled();
      failure = error;
      boot.failed(error);
      news.tell(context, instance, METHOD, 'error', { error });
      await this.giveUp(context, request, error, log);
    } finally {
      await opened.catch(() => undefined);
      await records
        .finishEvent(context, instance.uuid, EVENT, failure)
        .catch((error: unknown) => log.warn(`action event: ${describeError(error)}`));
    }
  }

  /** Leaves the server as Nova would after this failure; the attempt has already taken back what it made. */
  private async giveUp(
    context: RequestContext,
    request: BuildRequest,
    error: unknown,
    log: Logger,
  ): Promise<void> {
    const { records, tracker, placement, conductor } = this.parts;
    const { instance } = request;
    const verdict = classifyBuildFailure(error);
    log.error({ verdict }, `build failed: ${describeError(error)}`);
    if (verdict === 'gone') return;
    tracker.buildFailed();
    instance.update({ host: null, node: null, launched_on: null, availability_zone: null });
    if (verdict === 'reschedule' && request.retry !== null && request.alternates.length > 0) {
      instance.set('task_state', TaskState.SCHEDULING);
      await records.save(context, instance);
      await placement.deleteAllocations(instance.uuid);
      await conductor.buildInstances(context, request, describeError(error));
      return;
    }
    await records.createFault(context, instance.uuid, error);
    instance.update({ vm_state: VmState.ERROR, task_state: null });
    await records.save(context, instance);
    await placement.deleteAllocations(instance.uuid);
  }
}
