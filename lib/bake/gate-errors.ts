/** What can go wrong between the host and the gate inside a guest. */

/** Base of the gate's failures. */
export class GateError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The guest did not answer in time. */
export class GateTimeout extends GateError {}

/** The channel ended: QEMU closed it, or this side did. */
export class GateClosed extends GateError {}

/** The guest sent something that is not of this protocol; nothing more of it is believed. */
export class GateProtocolError extends GateError {}

/** A step inside the guest failed; `step` and `reason` are the guest's own words, cut and cleaned. */
export class GateStepFailed extends GateError {
  constructor(
    readonly step: string,
    readonly reason: string,
  ) {
    super(`the guest failed at ${step}: ${reason}`);
  }
}
