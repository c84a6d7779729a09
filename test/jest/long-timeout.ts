/** Tests on real parts take as long as the parts do; `testTimeout` of a project is not heard by jest. */
jest.setTimeout(600_000);
