/** The operator's nova.conf, typed and checked. */
export { ConfigError, type ConfigProblem } from './errors';
export { loadConfig, type Config } from './load';
export { ConfigPathOptions } from './command-line';
export { defaultConfigPaths } from './default-paths';
export { type Reload, takeMutable } from './reload';
export { loginFrom, type Login, type LoginSection } from './login';
export type { ListenAddress } from './option';
export { configurationReference } from './reference';
export { sampleConfiguration } from './sample';
