/** The heavy work of the cache, as it runs in worker threads: input and output by name. */
import { compact, type Compacted, type CompactTask } from './compact';
import type { PackFile } from './pack-format';
import {
  check,
  compare,
  readAll,
  write,
  type CompareTask,
  type PageSources,
  type WriteTask,
} from './restore';
import type { Extent } from './page-map';
import { usage, type FileUsage, type UsageTask } from './usage';
import { store, type StoredPages, type StoreTask } from './store';

/** What the worker threads can do. */
export interface Tasks {
  store: { input: StoreTask; output: StoredPages };
  write: { input: WriteTask; output: { pages: number } };
  check: { input: PackFile; output: { pages: number } };
  readAll: { input: PageSources & { readonly extents: readonly Extent[] }; output: { pages: number } };
  compare: { input: CompareTask; output: { pages: number } };
  compact: { input: CompactTask; output: Compacted | null };
  usage: { input: UsageTask; output: FileUsage[] };
}
export type TaskName = keyof Tasks;
export type TaskRunner = {
  [Name in TaskName]: (
    input: Tasks[Name]['input'],
    progress: (percent: number) => void,
  ) => Tasks[Name]['output'];
};

export const TASKS: TaskRunner = { store, write, check, readAll, compare, compact, usage };
