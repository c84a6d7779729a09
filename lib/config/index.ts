/** The operator's nova.conf, typed and checked. */
export { ConfigError, type ConfigProblem } from './errors';
export { loadConfig, type Config } from './load';
export { loginFrom, type Login, type LoginSection } from './login';
export type { ListenAddress } from './option';
export { configurationReference } from './reference';
