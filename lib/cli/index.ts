/** What other programs of this repository take from the command line tool: how it shows boots and tables. */
export { fetchBoots } from './boots-command';
export type { ReportedBoot } from './boots-command';
export { formatMs, formatTable } from './output';
export { waterfall } from './waterfall';
