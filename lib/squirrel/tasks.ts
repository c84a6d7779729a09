/** The heavy work of the cache, as it runs in worker threads: input and output by name. */
import {
  moveMaps,
  planCompact,
  rebase,
  type CompactPlan,
  type CompactTask,
  type MoveTask,
  type RebaseTask,
} from './compact';
import type { StoredUvm } from './live-pages';
import type { PackFile } from './pack-format';
import {
  assemble,
  check,
  encode,
  type AssembleTask,
  type EncodedSegment,
  type EncodeTask,
} from './pack-writer';
import {
  compare,
  checkMap,
  writeOut,
  type CompareTask,
  type StoredFileTask,
  type WriteTask,
} from './restore';
import { inspect, type InspectTask } from './hoard-inspect';
import { readAhead } from './read-ahead';
import { planRestore, type RestorePlan } from './restore-plan';
import { planStore, type StorePlan, type StoreTask } from './store';
import { usage, type FileUsage, type UsageTask } from './usage';

/** What the worker threads can do. */
export interface Tasks {
  planStore: { input: StoreTask; output: StorePlan };
  encode: { input: EncodeTask; output: EncodedSegment };
  assemble: { input: AssembleTask; output: { id: string; bytes: number } };
  planRestore: { input: StoredUvm; output: RestorePlan };
  writeOut: { input: WriteTask; output: { finished: boolean } };
  check: { input: PackFile; output: { pages: number } };
  checkMap: { input: StoredFileTask; output: { pages: number } };
  compare: { input: CompareTask; output: { pages: number } };
  planCompact: { input: CompactTask; output: CompactPlan | null };
  rebase: { input: RebaseTask; output: { id: string; bytes: number } };
  moveMaps: { input: MoveTask; output: Uint8Array[] };
  inspect: { input: InspectTask; output: { pages: number } };
  usage: { input: UsageTask; output: FileUsage[] };
  readAhead: { input: { readonly paths: readonly string[] }; output: { readonly bytes: number } };
}
export type TaskName = keyof Tasks;
export type TaskRunner = {
  [Name in TaskName]: (
    input: Tasks[Name]['input'],
    progress: (percent: number) => void,
  ) => Tasks[Name]['output'];
};

export const TASKS: TaskRunner = {
  planStore,
  encode,
  assemble,
  planRestore,
  writeOut,
  check,
  checkMap,
  compare,
  planCompact,
  rebase,
  moveMaps,
  inspect,
  usage,
  readAhead,
};
