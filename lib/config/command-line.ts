/** How both programs are told where their configuration is, by oslo.config's options. */
import { Option } from 'commander';

/** `--config-file` and `--config-dir`, each as often as wanted; what comes later wins. */
export class ConfigPathOptions {
  readonly given: string[] = [];
  readonly file = new Option(
    '--config-file <path>',
    'a nova.conf of this host; may be given several times, later ones win',
  ).argParser((path) => this.add(path));
  readonly directory = new Option(
    '--config-dir <path>',
    'a directory whose *.conf are read in the order of their names; may be given several times',
  ).argParser((path) => this.add(path));

  private add(path: string): string {
    this.given.push(path);
    return path;
  }
}
