/** A µVM of every image on every host: shared through the object store, baked by one, fetched by the others. */
export { Claims } from './claims';
export type { Claim } from './claims';
export { MAX_ENTRY_BYTES, SEGMENT_BYTES } from './entry';
export { Hoarder } from './hoarder';
export type { HoarderParts } from './hoarder';
export { openStore } from './open-store';
export { Pace } from './pace';
export { pull } from './pull';
export type { Pulled } from './pull';
export { push } from './push';
export { collectStore } from './store-gc';
export { Supply } from './supply';
export type { FollowOptions, SharedStore, SupplyParts, TransferMeter } from './supply';
export { Sweeper } from './sweeper';
export type { Transfer, TransferProgress } from './transfer';
export { UvmStore } from './uvm-store';
export type { StoredKey } from './uvm-store';
